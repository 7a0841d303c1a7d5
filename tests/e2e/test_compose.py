"""`docker compose up`, followed by what a person does with it. In this order, on one mesh."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.e2e import engine
from tests.e2e.composed import EGRESS, INTERNAL, Composed, docker, inspect, until
from tests.e2e.conftest import CATALOG, SECRET
from tests.integration.mesh.traffic import call, modern


def lists_files(mesh: Composed) -> bool:
    """Whether a real call from the host, through the ingress, is answered."""
    found = call(f"{mesh.ingress}/mcp/files", "list_directory", {"path": "."})
    return "hello.md" in json.dumps(found)


def status_of_call(mesh: Composed, service: str = "files") -> int:
    """Of a real call; 0 where nobody answers."""
    headers, body = modern("list_directory", {"path": "."})
    try:
        return httpx.post(f"{mesh.ingress}/mcp/{service}", headers=headers, json=body, trust_env=False).status_code
    except httpx.TransportError:
        return 0


@contextmanager
def calls_without_a_fault(mesh: Composed) -> Iterator[None]:
    """Calls `files` all the while; every one of them has to be answered."""
    over, faults = threading.Event(), []
    count = 0

    def work() -> None:
        nonlocal count
        while not over.is_set():
            try:
                assert lists_files(mesh)
                count += 1
            except (AssertionError, httpx.HTTPError) as error:
                faults.append(repr(error))
            over.wait(0.1)

    thread = threading.Thread(target=work, name="calls")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
    assert (faults, count > 0) == ([], True)


def ids(mesh: Composed) -> dict[str, str]:
    return mesh.ids()


def kill(mesh: Composed, role: str, service: str) -> str:
    """Kills the first container and returns its name once another one is in its place and all is well."""
    name, *_ = mesh.containers(role, service)
    before = mesh.ids()[name]
    docker("kill", name)
    until(lambda: mesh.ids().get(name, before) != before and mesh.settled(), f"{name} again")
    return name


def test_every_claim_about_the_mesh_holds(mesh: Composed) -> None:
    assert ", 0 failed" in mesh.mcpmesh("verify")


def test_a_tool_is_called_from_the_host_through_the_ingress(mesh: Composed) -> None:
    assert lists_files(mesh)


def test_what_a_service_keeps_is_in_its_own_data(mesh: Composed) -> None:
    call(
        f"{mesh.ingress}/mcp/memory",
        "create_entities",
        {"entities": [{"name": "kong", "entityType": "ingress", "observations": ["stands in front"]}]},
    )
    kill(mesh, "shim", "memory")
    assert "stands in front" in json.dumps(call(f"{mesh.ingress}/mcp/memory", "read_graph"))


def test_an_intention_denies_and_allows(mesh: Composed) -> None:
    mesh.consul("intention", "create", "-replace", "-deny", "ingress", "files")
    try:
        until(lambda: status_of_call(mesh) == 403, "a denied call")
    finally:
        mesh.consul("intention", "delete", "ingress", "files")
    until(lambda: status_of_call(mesh) == 200, "an allowed call")


def test_a_saved_catalog_is_applied_live(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        mesh.write({**CATALOG, "clock": CATALOG["time"]})
        until(lambda: mesh.ready("clock"), "the new service")
        mesh.write(CATALOG)
        until(lambda: not mesh.containers(service="clock"), "the end of its containers")


def test_three_instances_share_the_calls_and_go_again(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        mesh.mcpmesh("scale", "files=3")
        until(lambda: mesh.ready("files", 3), "three instances")
        assert len(mesh.containers("shim", "files")) == len(mesh.containers("sidecar", "files")) == 3
        mesh.mcpmesh("scale", "files=catalog")
        until(lambda: mesh.ready("files", 1), "one instance")


def test_a_killed_instance_comes_back_and_harms_nobody(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        before = ids(mesh)
        kill(mesh, "shim", "time")
        after = ids(mesh)
    assert after.keys() == before.keys()
    changed = {name for name in before if before[name] != after[name]}
    # The Envoy was in the network namespace of what died.
    assert changed == {name for name in before if "-default-time-" in name}


def test_a_killed_envoy_comes_back_alone(mesh: Composed) -> None:
    before = ids(mesh)
    envoy = kill(mesh, "sidecar", "time")
    after = ids(mesh)
    assert {name for name in before if before[name] != after.get(name)} == {envoy}


def test_a_killed_agent_is_followed_by_one_that_adopts(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        before = ids(mesh)
        agent = inspect(f"{mesh.project}-agent-1")["State"]
        # By the kernel, not by Docker, which would take it for a person's wish.
        os.kill(agent["Pid"], signal.SIGKILL)
        until(lambda: inspect(f"{mesh.project}-agent-1")["State"]["StartedAt"] != agent["StartedAt"], "a new agent")
        until(mesh.settled, "a mesh that is adopted")
        assert ids(mesh) == before


def test_a_restarted_agent_leaves_every_server_alone(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        before = ids(mesh)
        mesh.compose("restart", "agent")
        until(mesh.settled, "a mesh that is adopted")
        assert ids(mesh) == before


def test_a_restarted_consul_interrupts_no_call(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        before = ids(mesh)
        mesh.compose("restart", "consul")
        until(mesh.settled, "a mesh that knows Consul again")
        assert ids(mesh) == before


def test_a_restarted_ingress_leads_again(mesh: Composed) -> None:
    before = {name: id_ for name, id_ in ids(mesh).items() if "ingress" not in name}
    mesh.compose("restart", mesh.ingress_container)
    until(lambda: status_of_call(mesh) == 200, "a call through it", 60)
    until(mesh.settled, "a mesh that is whole")
    assert {name: id_ for name, id_ in ids(mesh).items() if "ingress" not in name} == before


def test_a_missing_image_is_told_and_holds_up_nobody(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        mesh.write({**CATALOG, "absent": {"image": "registry.invalid/mcpmesh/absent:1"}})
        until(lambda: "cannot pull the image" in mesh.service("absent").get("detail", ""), "the reason")
        assert "registry.invalid/mcpmesh/absent:1" in mesh.service("absent")["detail"]
        assert mesh.settled(but=["absent"])


def test_an_image_serves_its_own_program(mesh: Composed, clock_image: str) -> None:
    mesh.write({**CATALOG, "clock": {"image": clock_image, "env": {"TOKEN": "file:secret"}, "instances": 2}})
    until(lambda: mesh.ready("clock", 2) and mesh.settled(), "the image's servers")
    url = f"{mesh.ingress}/mcp/clock"
    assert "Asia/Tokyo" in json.dumps(call(url, "get_current_time", {"timezone": "Asia/Tokyo"}))
    server, other = mesh.containers("server", "clock")
    assert inspect(server)["Config"]["User"] == "12345"
    # Its secret is in the program's environment alone.
    pids = docker("top", server, "-eo", "pid").split()[1:]
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in pids]
    assert sum(f"TOKEN={SECRET}".encode() in each for each in environments) >= 1
    assert SECRET not in docker("inspect", server)
    untouched = mesh.ids()[other]
    kill(mesh, "server", "clock")
    assert mesh.ids()[other] == untouched
    mesh.mcpmesh("scale", "clock=3")
    until(lambda: mesh.ready("clock", 3) and mesh.settled(), "three instances of an image")
    mesh.mcpmesh("scale", "clock=catalog")
    assert "Asia/Tokyo" in json.dumps(call(url, "get_current_time", {"timezone": "Asia/Tokyo"}))
    assert ", 0 failed" in mesh.mcpmesh("verify", "clock")


def test_a_mistake_in_the_catalog_changes_nothing(mesh: Composed) -> None:
    before = ids(mesh)
    with calls_without_a_fault(mesh):
        mesh.write({**CATALOG, "time": {"comand": "mcp-server-time"}})
        error = until(lambda: mesh.status().get("catalog_error"), "the mistake told")
        assert "comand" in error
        assert ids(mesh) == before


def test_a_program_that_is_not_in_the_image_is_told(mesh: Composed) -> None:
    mesh.write({**CATALOG, "absent": {"command": "no-such-server"}})
    told = until(lambda: mesh.service("absent").get("detail"), "the reason")
    assert "no-such-server" in told or "No such file" in told, told


def test_a_stray_of_ours_goes_and_a_strangers_container_stays(mesh: Composed) -> None:
    [shim] = mesh.containers("shim", "time")
    labels = inspect(shim)["Config"]["Labels"]
    mark = {**json.loads(labels["mcpmesh.mark"]), "instance": "default-nobody-1-00000000", "service": "nobody"}

    def started(owner: str) -> str:
        marked = ["--label", f"mcpmesh.owner={owner}", "--label", f"mcpmesh.mark={json.dumps(mark)}"]
        return docker("run", "-d", "--entrypoint", "sleep", "--network", "none", *marked, "mcpmesh:e2e", "600")

    stray, other = started(labels["mcpmesh.owner"]), started("somebody/default")
    try:
        until(lambda: not docker("ps", "-aq", "--no-trunc", "--filter", f"id={stray}"), "the stray's end")
        assert inspect(other)["State"]["Running"]
    finally:
        docker("rm", "-f", stray, check=False)
        docker("rm", "-f", other)


def test_no_secret_is_in_any_containers_description_or_command_line(mesh: Composed) -> None:
    for name in mesh.containers():
        assert SECRET not in docker("inspect", name)
        assert SECRET not in docker("top", name, "-eo", "pid,args")


def test_only_the_ingress_is_published_and_consul_to_this_machine(mesh: Composed) -> None:
    listed = docker("ps", "-q", "--filter", f"label=com.docker.compose.project={mesh.project}").split()
    published = {}
    for name in [*listed, *mesh.containers()]:
        found = inspect(name)
        for bound in (found["NetworkSettings"]["Ports"] or {}).values():
            for each in bound or ():
                published[found["Name"].split("-")[-2], each["HostIp"]] = int(each["HostPort"])
    assert published == {
        (mesh.ingress_container, "127.0.0.1"): mesh.ingress_port,
        ("consul", "127.0.0.1"): mesh.consul_port,
    }


def test_the_internal_network_has_no_way_out(mesh: Composed) -> None:
    [shim] = mesh.containers("shim", "time")
    found = inspect(shim)
    assert list(found["NetworkSettings"]["Networks"]) == [f"{mesh.project}_{INTERNAL}"]
    assert json.loads(docker("network", "inspect", f"{mesh.project}_{INTERNAL}"))[0]["Internal"] is True
    host = found["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
    mounted = {mount["Destination"] for mount in found["Mounts"]}
    assert mounted == {"/run/mcpmesh", "/data"}


def test_a_service_that_may_reaches_out(mesh: Composed) -> None:
    mesh.write({**CATALOG, "clock": {**CATALOG["time"], "egress": True}})
    until(lambda: mesh.ready("clock"), "the new service")
    [shim] = mesh.containers("shim", "clock")
    assert set(inspect(shim)["NetworkSettings"]["Networks"]) == {
        f"{mesh.project}_{INTERNAL}",
        f"{mesh.project}_{EGRESS}",
    }


# Opens a connection to each of the addresses that it is given, all at once, and prints those that took one.
KNOCK = """
import concurrent.futures, socket, sys
def knock(word):
    host, _, port = word.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 2).close()
    except OSError:
        return
    print(word, flush=True)
with concurrent.futures.ThreadPoolExecutor(100) as threads:
    list(threads.map(knock, sys.argv[1:]))
"""


def open_from(network: str, addresses: list[str]) -> set[str]:
    words = ["run", "--rm", "--network", network, "--entrypoint", "/opt/mcpmesh/bin/python", "mcpmesh:e2e", "-c", KNOCK]
    return set(docker(*words, *addresses).split())


def test_nobody_outside_reaches_a_shim_an_envoy_or_consul(mesh: Composed) -> None:
    internal = f"{mesh.project}_{INTERNAL}"

    def address(name: str, network: str = internal) -> str:
        found: str = inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"]
        return found

    ports = (11100, 11101, 11102, 11103, 19000, 80)
    servers = [f"{address(name)}:{port}" for name in mesh.containers("shim") for port in ports]
    edge = f"{mesh.project}_mesh-edge"
    consul = f"{mesh.project}-consul-1"
    consuls = [f"{address(consul, n)}:{port}" for n in (internal, edge) for port in (8300, 8301, 8500, 8502, 8600)]
    assert open_from("bridge", [*servers, *consuls]) == set()
    assert open_from(f"{mesh.project}_{EGRESS}", [*servers, *consuls]) == set()
    # From inside, a sidecar with its mTLS and the page that Consul looks at; nothing of Consul, nothing of the agent.
    ingress = f"{mesh.project}-{mesh.ingress_container}-1"
    others = [f"{address(ingress)}:{port}" for port in (8000, 8001, 8100)]
    others += [f"{address(f'{mesh.project}-agent-1')}:{port}" for port in range(11090, 11100)]
    open_inside = open_from(internal, [*servers, *consuls, *others])
    assert open_inside == {f"{address(name)}:{port}" for name in mesh.containers("shim") for port in (11101, 11102)}


def test_the_logs_of_a_service_are_those_of_its_containers(mesh: Composed) -> None:
    until(lambda: "listens on 127.0.0.1:11100" in mesh.mcpmesh("logs", "time"), "the shim's first line")


def test_the_servers_stop_and_start_with_their_companion(mesh: Composed) -> None:
    mesh.compose("stop", "servers")
    assert mesh.containers() == []
    mesh.compose("start", "servers")
    until(mesh.settled, "all servers again")


def test_a_restarted_docker_brings_the_mesh_back(mesh: Composed) -> None:
    engine.restart()
    until(mesh.settled, "a mesh after Docker's restart", 180)
    assert lists_files(mesh)


@pytest.mark.last
def test_down_leaves_nothing(mesh: Composed) -> None:
    mesh.compose("down", "-v")
    assert mesh.left() == []
