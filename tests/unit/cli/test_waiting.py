"""Commands given while a mesh is starting wait for what they need, and for nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.api.fake_operations import FILES, POSTGRES, STATUS
from tests.unit.cli.conftest import EAGER, SECONDS, Agent, Mesh, read_until, until

from mcpmesh.api import agent_lock, agent_record
from mcpmesh.cli.wait.agent_startup import connect, until_agent_listens
from mcpmesh.cli.wait.readiness import ServingCondition, SettledCondition
from mcpmesh.errors import Unreachable
from mcpmesh.model.mesh_status import InstanceStatus, MeshStatus, State

STARTING = replace(FILES, state=State.STARTING, ready=0, address=None, instances=())
NOT_BEGUN = replace(STATUS, in_sync=False, ingress=None, ingress_ready=False, consul_ready=False, services=(STARTING,))
NO_ROUTE_YET = replace(STATUS, in_sync=False, ingress_ready=False, services=(replace(FILES, address=None),))


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (["verify"], ("verify",)),
        (["tools"], ("tools", None)),
        (["call", "files", "read_file"], ("call", "files", "read_file", {})),
        (["scale", "files=3"], ("scale", "files", 3)),
        (["pause"], ("pause",)),
    ],
)
def test_a_command_waits_until_the_agent_manages_the_mesh_and_says_so(
    mesh: Mesh, agent: Agent, command: list[str], asked: tuple[object, ...]
) -> None:
    agent.operations.mesh_status = NOT_BEGUN
    agent.operations.messages.append({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})
    with mesh.start(*command) as process:
        read_until(process, 'waiting until mesh "default" is ready')
        agent.do(agent.operations.say("consul: it elects itself"))
        read_until(process, "it elects itself")
        before = {what for what, *_ in agent.operations.asked}
        agent.operations.mesh_status = STATUS
        assert process.wait(SECONDS) == 0
    assert (before, agent.operations.asked[-1]) == ({"events"}, asked)


def test_waiting_prints_nothing_on_stdout(mesh: Mesh, agent: Agent) -> None:
    agent.operations.mesh_status = NOT_BEGUN
    with mesh.start("verify", "--json", stderr=subprocess.PIPE) as process:
        assert process.stderr is not None and process.stdout is not None
        assert "waiting until" in process.stderr.readline()
        agent.operations.mesh_status = STATUS
        printed = [json.loads(line) for line in process.stdout]
    assert printed[-1] == {"summary": {"claims": 1, "failed": 0}} and len(printed) == 2


def test_a_mesh_that_cannot_start_is_reported_at_once(mesh: Mesh, agent: Agent) -> None:
    failed = replace(STARTING, state=State.FAILED, detail="cannot reach Consul")
    agent.operations.mesh_status = replace(NOT_BEGUN, services=(failed,))
    agent.operations.error = Unreachable("cannot do that yet: cannot reach Consul")
    result = mesh.run("tools")
    assert (result.exit_code, result.stderr) == (6, "error: cannot do that yet: cannot reach Consul\n")


async def test_an_agent_that_is_starting_is_waited_for(mesh: Mesh) -> None:
    async def found() -> int:
        async with connect(mesh.home, EAGER) as agent:
            return agent.record.pid

    with agent_lock.hold(mesh.home):
        finding = asyncio.create_task(found())
        # Without waiting it would have failed by then.
        assert not (await asyncio.wait({finding}, timeout=0.05))[0]
        agent_record.create_token(mesh.home)
        agent_record.write(mesh.home, agent_record.AgentRecord(os.getpid(), "http://127.0.0.1:1", time.time(), "0.1.0"))
        async with asyncio.timeout(SECONDS):
            assert await finding == os.getpid()


@pytest.mark.parametrize(
    "first",
    [
        b"/opt/python\0/usr/local/bin/mcpmesh\0agent\0-f\0/mesh/mesh.yaml\0",
        b"/sbin/docker-init\0--\0mcpmesh\0agent\0",
        b"python\0-m\0mcpmesh\0--name=default\0agent\0",
    ],
)
async def test_an_agent_that_is_the_first_process_of_its_container_is_waited_for_before_it_has_its_lock(
    mesh: Mesh, tmp_path: Path, first: bytes
) -> None:
    (tmp_path / "cmdline").write_bytes(first)
    waiting = asyncio.create_task(until_agent_listens(mesh.home, EAGER, tmp_path / "cmdline"))
    # Without waiting it would have returned by then.
    assert not (await asyncio.wait({waiting}, timeout=0.05))[0]
    with agent_lock.hold(mesh.home):
        agent_record.create_token(mesh.home)
        agent_record.write(mesh.home, agent_record.AgentRecord(os.getpid(), "http://127.0.0.1:1", time.time(), "0.1.0"))
        async with asyncio.timeout(SECONDS):
            await waiting


@pytest.mark.parametrize(
    "first",
    [
        b"/sbin/init\0",
        b"python\0mcpmesh\0agent\0--name\0other\0",
        b"mcpmesh\0--name=other\0agent\0",
        b"mcpmesh\0status\0",
        b"",
    ],
)
def test_another_first_process_is_not_waited_for(mesh: Mesh, tmp_path: Path, first: bytes) -> None:
    (tmp_path / "cmdline").write_bytes(first)
    # A coroutine that waits does not end at its first step.
    with pytest.raises(StopIteration):
        until_agent_listens(mesh.home, EAGER, tmp_path / "cmdline").send(None)


def over(status: MeshStatus, *services: str, age: float = 3600.0, every_instance: bool = False) -> bool:
    """Whether a command has nothing to wait for, of an agent of that age."""
    return ServingCondition(services, 60.0 - age, every_instance=every_instance).holds(status, 0.0)


@pytest.mark.parametrize(
    "status",
    [
        STATUS,
        replace(NOT_BEGUN, services=(), catalog_error="mesh.yaml:3: no command"),
        replace(NOT_BEGUN, services=(replace(STARTING, state=State.FAILED),)),
        replace(NOT_BEGUN, services=(replace(STARTING, state=State.UNKNOWN),)),
        replace(STATUS, paused=True, services=(STARTING,)),
    ],
)
def test_waiting_ends_at_once_where_it_cannot_help(status: MeshStatus) -> None:
    assert over(status, age=0.0)


def test_up_stops_waiting_when_the_agent_cannot_start_but_not_when_consul_is_unreachable() -> None:
    unknown = (replace(FILES, state=State.UNKNOWN),)
    assert SettledCondition(("files",)).holds(replace(NOT_BEGUN, services=unknown), 0.0)
    assert not SettledCondition(("files",)).holds(replace(STATUS, services=unknown), 0.0)


def test_a_passing_failure_does_not_end_waiting_while_the_agent_is_young() -> None:
    serving, failed = ServingCondition((), 60.0, every_instance=True), replace(STATUS, services=(FILES, POSTGRES))
    assert not serving.holds(failed, 1.0)
    assert not serving.holds(failed, 5.0)
    assert serving.holds(failed, 6.0)
    assert over(failed, "files", age=0.0)
    assert over(failed)


def test_a_passing_failure_does_not_end_up() -> None:
    settling, failed = SettledCondition(("files",)), replace(STATUS, services=(replace(FILES, state=State.FAILED),))
    assert not settling.holds(failed, 100.0)
    assert not settling.holds(replace(STATUS, services=(replace(FILES, state=State.STARTING),)), 104.0)
    assert not settling.holds(failed, 105.0)
    assert not settling.holds(failed, 109.0)
    assert settling.holds(failed, 110.0)
    assert settling.holds(STATUS, 111.0)


def test_waiting_for_a_service_that_fails_and_restarts_has_a_bound() -> None:
    settling, failed = SettledCondition(("files",)), replace(STATUS, services=(replace(FILES, state=State.FAILED),))
    starting = replace(STATUS, services=(replace(FILES, state=State.STARTING),))
    over = [settling.holds(failed if now % 4 < 2 else starting, float(now)) for now in range(36)]
    assert over.index(True) == 32


def test_an_early_failure_does_not_shorten_the_time_of_the_ingress() -> None:
    settling, failed = SettledCondition(("files",)), replace(STATUS, services=(replace(FILES, state=State.FAILED),))
    assert not settling.holds(failed, 0.0)
    assert not settling.holds(replace(STATUS, services=(replace(FILES, state=State.STARTING),)), 2.0)
    assert not settling.holds(NO_ROUTE_YET, 60.0)
    assert settling.holds(STATUS, 61.0)


def test_services_are_waited_for_while_the_agent_is_young() -> None:
    assert not over(replace(STATUS, services=()), age=5.0)
    assert not over(replace(STATUS, services=()), "files", age=5.0)
    assert over(replace(STATUS, services=()))


def test_an_unknown_service_is_not_waited_for() -> None:
    assert over(replace(STATUS, in_sync=False), "fils", age=0.0)


def test_only_the_named_service_is_waited_for() -> None:
    status = replace(STATUS, in_sync=False, services=(FILES, replace(STARTING, name="time")))
    assert over(status, "files", age=0.0)
    assert not over(status, "time")
    assert not over(status)


def test_the_ingress_is_waited_for_while_the_agent_is_young_and_not_after_a_later_failure() -> None:
    assert not over(NO_ROUTE_YET, age=5.0)
    assert not over(NO_ROUTE_YET, "files", age=5.0)
    assert over(NO_ROUTE_YET)


def test_the_ingress_gets_its_time_after_the_last_service_has_started() -> None:
    serving = ServingCondition((), 0.0, every_instance=False)
    assert not serving.holds(replace(STATUS, services=(STARTING,)), 300.0)
    assert not serving.holds(NO_ROUTE_YET, 301.0)
    assert serving.holds(NO_ROUTE_YET, 331.0)
    assert serving.holds(STATUS, 302.0)


def test_calls_need_one_instance_and_verify_needs_all() -> None:
    growing = replace(
        FILES, state=State.DEGRADED, ready=1, instances=(*FILES.instances, InstanceStatus("files-3", State.STARTING))
    )
    status = replace(STATUS, in_sync=False, services=(growing,))
    assert over(status, "files")
    assert not over(status, "files", every_instance=True)


def test_an_agent_without_its_catalog_file_says_so_and_can_be_taken_down(mesh: Mesh) -> None:
    absent = mesh.folder / "absent" / "mesh.yaml"
    with mesh.start("agent", "-f", str(absent)) as agent:
        read_until(agent, "does not exist")
        status = mesh.run("status")
        assert status.exit_code == 4 and f"{absent}: does not exist" in status.stdout
        assert "no catalog that can be used" in status.stdout
        for command in (["verify"], ["verify", "files"], ["tools"], ["plan"], ["scale", "files=2"], ["reload"]):
            result = mesh.run(*command)
            assert result.exit_code == 2 and f"{absent}: does not exist" in result.stderr, command
        absent.parent.mkdir()
        absent.write_text("version: 1\nservices: {files: {comand: cat}}\n")
        until(lambda: f"{absent}:2: services.files.comand" in mesh.run("status").stdout)
        # `up` reports it at once.
        assert mesh.run("up", "-f", str(absent)).exit_code == 2
        assert mesh.run("down").exit_code == 0
        assert agent.wait(SECONDS) == 0
