"""`docker compose up`, and what a person does then, in this order on one mesh."""

from __future__ import annotations

import json
import os
import signal

import pytest
from tests.e2e import engine
from tests.e2e.calls import (
    calls_without_a_fault,
    denied_and_allowed,
    every_claim_holds,
    kill,
    lists_files,
    restarted_ingress_leads_again,
)
from tests.e2e.composed import Composed, docker, environments_in, inspect, until
from tests.e2e.conftest import CATALOG, SECRET
from tests.integration.mesh.traffic import call


def test_every_claim_about_the_mesh_holds(mesh: Composed) -> None:
    every_claim_holds(mesh)


def test_a_tool_is_called_from_the_host_through_the_ingress(mesh: Composed) -> None:
    assert lists_files(mesh)


def test_a_service_stores_its_files_in_its_own_data_folder(mesh: Composed) -> None:
    call(
        f"{mesh.ingress}/mcp/memory",
        "create_entities",
        {"entities": [{"name": "kong", "entityType": "ingress", "observations": ["stands in front"]}]},
    )
    kill(mesh, "shim", "memory")
    assert "stands in front" in json.dumps(call(f"{mesh.ingress}/mcp/memory", "read_graph"))


def test_an_intention_denies_and_allows(mesh: Composed) -> None:
    denied_and_allowed(mesh)


def test_a_saved_catalog_is_applied_while_the_mesh_runs(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        mesh.write({**CATALOG, "clock": CATALOG["time"]})
        until(lambda: mesh.ready("clock"), "the new service")
        mesh.write(CATALOG)
        until(lambda: not mesh.containers(service="clock"), "the end of its containers")


def test_three_instances_share_the_calls_and_two_are_removed_again(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        mesh.mcpmesh("scale", "files=3")
        until(lambda: mesh.ready("files", 3), "three instances")
        assert len(mesh.containers("shim", "files")) == len(mesh.containers("sidecar", "files")) == 3
        mesh.mcpmesh("scale", "files=catalog")
        until(lambda: mesh.ready("files", 1), "one instance")


def test_a_killed_instance_is_replaced_without_touching_others(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        before = mesh.ids()
        kill(mesh, "shim", "time")
        after = mesh.ids()
    assert after.keys() == before.keys()
    changed = {name for name in before if before[name] != after[name]}
    # The Envoy was in the network namespace of the killed container.
    assert changed == {name for name in before if "-default-time-" in name}


def test_only_a_killed_envoy_is_replaced(mesh: Composed) -> None:
    before = mesh.ids()
    envoy = kill(mesh, "sidecar", "time")
    after = mesh.ids()
    assert {name for name in before if before[name] != after.get(name)} == {envoy}


def test_the_agent_after_a_killed_one_adopts_what_runs(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        before = mesh.ids()
        agent = inspect(f"{mesh.project}-agent-1")["State"]
        # By a signal, not by `docker kill`, which Docker would take for a person's wish.
        os.kill(agent["Pid"], signal.SIGKILL)
        until(lambda: inspect(f"{mesh.project}-agent-1")["State"]["StartedAt"] != agent["StartedAt"], "a new agent")
        until(mesh.settled, "a mesh that is adopted")
        assert mesh.ids() == before


def test_a_restarted_agent_touches_no_server(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        before = mesh.ids()
        mesh.compose("restart", "agent")
        until(mesh.settled, "a mesh that is adopted")
        assert mesh.ids() == before


def test_a_restarted_consul_interrupts_no_call(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        before = mesh.ids()
        mesh.compose("restart", "consul")
        until(mesh.settled, "a mesh that knows Consul again")
        assert mesh.ids() == before


def test_calls_are_answered_after_a_restart_of_the_ingress(mesh: Composed) -> None:
    restarted_ingress_leads_again(mesh)


def test_a_missing_image_is_reported_and_other_services_are_not_affected(mesh: Composed) -> None:
    with calls_without_a_fault(mesh):
        mesh.write({**CATALOG, "absent": {"image": "127.0.0.1:1/mcpmesh/absent:1"}})
        until(lambda: "cannot pull the image" in mesh.service("absent").get("detail", ""), "the reason")
        assert "127.0.0.1:1/mcpmesh/absent:1" in until(lambda: mesh.service("absent").get("detail"), "its detail")
        until(lambda: mesh.settled(but=["absent"]), "all others, ready")


def test_an_image_serves_its_own_program(mesh: Composed, clock_image: str) -> None:
    clock = {"image": clock_image, "env": {"TOKEN": "file:secret"}, "instances": 2, "upstreams": ["time"]}
    mesh.write({**CATALOG, "time": {**CATALOG["time"], "allow": ["clock"]}, "clock": clock})
    until(lambda: mesh.ready("clock", 2) and mesh.settled(), "the image's servers")
    url = f"{mesh.ingress}/mcp/clock"
    assert "Asia/Tokyo" in json.dumps(call(url, "get_current_time", {"timezone": "Asia/Tokyo"}))
    server, other = mesh.containers("server", "clock")
    assert inspect(server)["Config"]["User"] == "12345"
    # Its secret is only in the program's environment.
    environments = environments_in(server)
    assert sum(f"TOKEN={SECRET}".encode() in each for each in environments) >= 1
    assert sum(b"MCPMESH_UPSTREAM_TIME=127.0.0.1:11103" in each for each in environments) >= 1
    assert SECRET not in docker("inspect", server)
    untouched = mesh.ids()[other]
    kill(mesh, "server", "clock")
    assert mesh.ids()[other] == untouched
    mesh.mcpmesh("scale", "clock=3")
    until(lambda: mesh.ready("clock", 3) and mesh.settled(), "three instances of an image")
    mesh.mcpmesh("scale", "clock=catalog")
    assert "Asia/Tokyo" in json.dumps(call(url, "get_current_time", {"timezone": "Asia/Tokyo"}))
    every_claim_holds(mesh, "clock")


def test_a_mistake_in_the_catalog_changes_nothing(mesh: Composed) -> None:
    before = mesh.ids()
    with calls_without_a_fault(mesh):
        mesh.write({**CATALOG, "time": {"comand": "mcp-server-time"}})
        error = until(lambda: mesh.status().get("catalog_error"), "the mistake told")
        assert "comand" in error
        assert mesh.ids() == before


def test_a_program_that_is_not_in_the_image_is_reported(mesh: Composed) -> None:
    mesh.write({**CATALOG, "absent": {"command": "no-such-server"}})

    def told() -> bool:
        detail = mesh.service("absent").get("detail", "")
        assert "no-such-server" in detail or "No such file" in detail, detail
        return True

    # Before that, its status may be "starting".
    until(told, "the reason")


def test_a_stray_of_ours_is_removed_and_other_containers_are_not(mesh: Composed, image: str) -> None:
    [shim] = mesh.containers("shim", "time")
    labels = inspect(shim)["Config"]["Labels"]
    mark = {**json.loads(labels["mcpmesh.mark"]), "instance": "default-nobody-1-00000000", "service": "nobody"}

    def started(owner: str) -> str:
        marked = ["--label", f"mcpmesh.owner={owner}", "--label", f"mcpmesh.mark={json.dumps(mark)}"]
        # The first process of a container gets a TERM only if it handles it.
        words = "trap exit TERM; sleep 600 & wait"
        return docker("run", "-d", "--entrypoint", "sh", "--network", "none", *marked, image, "-c", words)

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


def test_a_server_runs_with_few_privileges_and_limits(mesh: Composed) -> None:
    [shim] = mesh.containers("shim", "time")
    found = inspect(shim)
    host = found["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
    assert {mount["Destination"] for mount in found["Mounts"]} == {"/run/mcpmesh", "/data"}


def test_the_logs_of_a_service_are_those_of_its_containers(mesh: Composed) -> None:
    until(lambda: "listens on 127.0.0.1:11100" in mesh.mcpmesh("logs", "time"), "the shim's first line")


def test_the_servers_stop_and_start_with_composes_servers_container(mesh: Composed) -> None:
    mesh.compose("stop", "servers")
    until(lambda: mesh.containers() == [], "the end of all servers")
    mesh.compose("start", "servers")
    until(mesh.settled, "all servers again")


def test_the_mesh_is_ready_again_after_a_restart_of_docker(mesh: Composed) -> None:
    engine.restart()
    until(mesh.settled, "a mesh after Docker's restart", 300)
    assert lists_files(mesh)


@pytest.mark.last
def test_down_leaves_nothing(mesh: Composed) -> None:
    mesh.compose("down", "-v")
    assert mesh.left() == []
