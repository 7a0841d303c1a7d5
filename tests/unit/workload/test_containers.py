"""What the container runtime decides before and after it asks Docker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
from docker.errors import APIError, DockerException, ImageNotFound

from mcpmesh.errors import Broken, MeshError, NotOurs, Refused, Unreachable, WorkloadError
from mcpmesh.kit.marked_process import Mark
from mcpmesh.workload.containers import inventory, layout
from mcpmesh.workload.containers.container_spec import program_of
from mcpmesh.workload.containers.docker_engine import translated
from mcpmesh.workload.containers.layout import HostPaths
from mcpmesh.workload.runtime import PublishedPort

PLACE = HostPaths({"/mesh": "/home/me/mesh", "/data": "/var/lib/docker/volumes/d/_data", "/mesh/big": "/srv/big"})


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
def test_a_folder_of_the_agents_is_found_outside_by_the_nearest_mount(inside: str, outside: str | None) -> None:
    assert PLACE.outside(Path(inside)) == outside


def test_the_path_of_a_socket_is_short_whatever_the_instance_is_called() -> None:
    mark = Mark("m", "/home", "shim", "m-" + "x" * 80 + "-12-01234567")
    assert len(f"/run/mcpmesh/{layout.folder(mark)}/admin.sock") < 60


# --- lives


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
        # Its namespace went with the life of the shim that made it.
        (container("e", joined="s@1"), [container("s", started="2")], True),
        (container("e", joined="s@1"), [container("s", running=False)], True),
        (container("e", joined="s@1"), [], True),
        # A shim whose program is in a container of its own is of no use without it.
        (container("s", image="mcp/time"), [container("p", role="server", joined="s@1")], False),
        (container("s", image="mcp/time"), [container("p", role="server", joined="s@1", running=False)], True),
        (container("s", image="mcp/time"), [], True),
    ],
)
def test_what_can_be_of_no_more_use_is_over(one: dict[str, Any], others: list[dict[str, Any]], over: bool) -> None:
    assert inventory.over(one, {each["Id"]: each for each in (one, *others)}) is over


# --- errors


def refused(status: int, said: str) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError("failed", response, said)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (DockerException("x"), Unreachable, "cannot reach Docker at unix:///d.sock: is it running? (x)"),
        (ConnectionRefusedError(111, "Connection refused"), Unreachable, "is it running? (Connection refused)"),
        (ImageNotFound("x", explanation="No such image: a:1"), WorkloadError, "cannot find the image: No such image"),
        (refused(500, "write /x: no space left on device"), WorkloadError, "docker system df"),
        (refused(500, "no available IPv4 addresses on this network's address pools: m"), WorkloadError, "is full"),
        (refused(409, 'the container name "/a" is already in use'), NotOurs, "it is none of this mesh"),
        (refused(403, "Forbidden"), Refused, "a socket proxy has to allow it"),
        (refused(500, "boom"), Broken, "cannot do that at Docker: boom"),
        (refused(400, "invalid mount"), WorkloadError, "cannot do that at Docker: invalid mount"),
    ],
)
def test_what_docker_says_is_told_with_the_next_step(error: Exception, kind: type[MeshError], said: str) -> None:
    told = translated(error, "unix:///d.sock")
    assert type(told) is kind
    assert said in str(told)


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
    edge = {"Names": ["/kong"], "Ports": [port, closed], "Labels": {layout.INGRESS: "kong"}}
    ours = {"Names": ["/x"], "Ports": [port], "Labels": {layout.OWNER: "me"}}
    assert list(layout.published(edge, "me")) == [
        PublishedPort("kong", "127.0.0.1", 8000, 8000, ours=False, ingress=True)
    ]
    assert list(layout.published(ours, "me")) == [PublishedPort("x", "127.0.0.1", 8000, 8000, ours=True, ingress=False)]
