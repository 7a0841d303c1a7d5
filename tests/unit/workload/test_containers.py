"""What the container runtime decides without asking Docker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
from docker.errors import APIError, DockerException, ImageNotFound

from mcpmesh.errors import Broken, MeshError, NotOurs, Refused, Unreachable, WorkloadError
from mcpmesh.kit.marked_process import Mark
from mcpmesh.workload.containers import container_naming, inventory
from mcpmesh.workload.containers.container_naming import HostPaths
from mcpmesh.workload.containers.container_spec import program_of
from mcpmesh.workload.containers.docker_engine import translated
from mcpmesh.workload.runtime import PublishedPort

HOST_PATHS = HostPaths({"/mesh": "/home/me/mesh", "/data": "/var/lib/docker/volumes/d/_data", "/mesh/big": "/srv/big"})


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("/mesh/files", "/home/me/mesh/files"),
        ("/mesh", "/home/me/mesh"),
        ("/mesh/big/a", "/srv/big/a"),
        ("/data/memory", "/var/lib/docker/volumes/d/_data/memory"),
        ("/etc", None),
        ("/meshes", None),
    ],
)
def test_the_hosts_path_of_a_folder_follows_from_the_nearest_mount(inside: str, outside: str | None) -> None:
    assert HOST_PATHS.find(Path(inside)) == outside


def test_the_path_of_a_socket_is_short_however_long_the_instances_name() -> None:
    mark = Mark("m", "/home", "shim", "m-" + "x" * 80 + "-12-01234567")
    assert len(f"/run/mcpmesh/{container_naming.folder(mark)}/admin.sock") < 60


# --- inventory


def container(id_: str, started: str = "1", running: bool = True, **labels: str) -> dict[str, Any]:
    named = {f"mcpmesh.{name}": value for name, value in labels.items()}
    return {"Id": id_, "State": {"Running": running, "StartedAt": started}, "Config": {"Labels": named}}


SHIM = container("s", role="shim")


@pytest.mark.parametrize(
    ("one", "others", "over"),
    [
        (SHIM, [], False),
        (container("s", running=False), [], True),
        (container("e", joined="s@1"), [SHIM], False),
        # Its namespace ended with that run of the shim.
        (container("e", joined="s@1"), [container("s", started="2")], True),
        (container("e", joined="s@1"), [container("s", running=False)], True),
        (container("e", joined="s@1"), [], True),
        # A shim whose program is in a container of its own is of no use without it.
        (container("s", image="mcp/time"), [container("p", role="server", joined="s@1")], False),
        (container("s", image="mcp/time"), [container("p", role="server", joined="s@1", running=False)], True),
        (container("s", image="mcp/time"), [], True),
    ],
)
def test_a_container_is_over_when_it_or_the_one_it_needs_has_ended(
    one: dict[str, Any], others: list[dict[str, Any]], over: bool
) -> None:
    assert inventory.is_over(one, {each["Id"]: each for each in (one, *others)}) is over


# --- errors


def api_error(status: int, explanation: str) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError("failed", response, explanation)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (DockerException("x"), Unreachable, "cannot reach Docker at unix:///d.sock: is it running? (x)"),
        (ConnectionRefusedError(111, "Connection refused"), Unreachable, "is it running? (Connection refused)"),
        (ImageNotFound("x", explanation="No such image: a:1"), WorkloadError, "cannot find the image: No such image"),
        (api_error(500, "write /x: no space left on device"), WorkloadError, "docker system df"),
        (api_error(500, "no available IPv4 addresses on this network's address pools: m"), WorkloadError, "is full"),
        (api_error(409, 'the container name "/a" is already in use'), NotOurs, "it is none of this mesh"),
        (api_error(403, "Forbidden"), Refused, "a socket proxy has to allow it"),
        (api_error(500, "boom"), Broken, "cannot do that at Docker: boom"),
        (api_error(400, "invalid mount"), WorkloadError, "cannot do that at Docker: invalid mount"),
    ],
)
def test_an_error_of_docker_becomes_ours_with_the_next_step(error: Exception, kind: type[MeshError], text: str) -> None:
    found = translated(error, "unix:///d.sock")
    assert type(found) is kind
    assert text in str(found)


# --- images and ports


def test_an_image_runs_its_entrypoint_with_the_catalogs_arguments_or_its_own() -> None:
    image = {"Config": {"Entrypoint": ["server"], "Cmd": ["--own"]}}
    assert program_of(image, ()) == ["server", "--own"]
    assert program_of(image, ("--ours",)) == ["server", "--ours"]
    with pytest.raises(WorkloadError, match="names no program"):
        program_of({"Config": {}}, ())


def test_a_published_port_is_the_ingress_ours_or_another_of_the_project() -> None:
    port = {"IP": "127.0.0.1", "PublicPort": 8000, "PrivatePort": 8000, "Type": "tcp"}
    closed = {"PrivatePort": 8001, "Type": "tcp"}
    edge = {"Names": ["/kong"], "Ports": [port, closed], "Labels": {container_naming.INGRESS: "kong"}}
    ours = {"Names": ["/x"], "Ports": [port], "Labels": {container_naming.OWNER: "me"}}
    assert list(container_naming.published_ports(edge, "me")) == [
        PublishedPort("kong", "127.0.0.1", 8000, 8000, ours=False, ingress=True)
    ]
    assert list(container_naming.published_ports(ours, "me")) == [
        PublishedPort("x", "127.0.0.1", 8000, 8000, ours=True, ingress=False)
    ]
