"""Commands typed while a mesh is starting: what they wait for, and for what they don't."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.api.fake_operations import BOARD, FILES, POSTGRES
from tests.unit.cli.conftest import SECONDS, Agent, Mesh, read_until, until

from mcpmesh.api import agent_record
from mcpmesh.cli.invocation import Invocation
from mcpmesh.cli.render.output import Output
from mcpmesh.cli.teardown import answering
from mcpmesh.cli.wait.readiness import Serving, Settling
from mcpmesh.errors import Unreachable
from mcpmesh.model.mesh_status import InstanceStatus, MeshStatus, State

STARTING = replace(FILES, state=State.STARTING, ready=0, address=None, instances=())
NOT_BEGUN = replace(BOARD, in_sync=False, ingress=None, ingress_ready=False, consul_ready=False, services=(STARTING,))
NO_ROUTE_YET = replace(BOARD, in_sync=False, ingress_ready=False, services=(replace(FILES, address=None),))


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
def test_a_command_waits_until_the_mesh_has_begun_and_says_so(
    mesh: Mesh, agent: Agent, command: list[str], asked: tuple[object, ...]
) -> None:
    agent.standin.board = NOT_BEGUN
    agent.standin.messages.append({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})
    with mesh.start(*command) as process:
        read_until(process, 'waiting until mesh "default" is ready')
        agent.do(agent.standin.say("consul: it elects itself"))
        read_until(process, "it elects itself")
        before = {what for what, *_ in agent.standin.asked}
        agent.standin.board = BOARD
        assert process.wait(SECONDS) == 0
    assert (before, agent.standin.asked[-1]) == ({"events"}, asked)


def test_stdout_is_the_commands_own(mesh: Mesh, agent: Agent) -> None:
    agent.standin.board = NOT_BEGUN
    with mesh.start("verify", "--json", stderr=subprocess.PIPE) as process:
        assert process.stderr is not None and process.stdout is not None
        assert "waiting until" in process.stderr.readline()
        agent.standin.board = BOARD
        said = [json.loads(line) for line in process.stdout]
    assert said[-1] == {"summary": {"claims": 1, "failed": 0}} and len(said) == 2


def test_a_mesh_that_cannot_come_up_is_told_at_once(mesh: Mesh, agent: Agent) -> None:
    failed = replace(STARTING, state=State.FAILED, detail="cannot reach Consul")
    agent.standin.board = replace(NOT_BEGUN, services=(failed,))
    agent.standin.error = Unreachable("cannot do that yet: cannot reach Consul")
    result = mesh.run("tools")
    assert (result.exit_code, result.stderr) == (6, "error: cannot do that yet: cannot reach Consul\n")


async def test_an_agent_that_is_starting_is_waited_for(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCPMESH_STATE_DIR", str(mesh.home.parent))
    this = Invocation("default", Output(False))

    async def found() -> int:
        async with this.agent() as agent:
            return agent.presence.pid

    with agent_record.held(mesh.home):
        finding = asyncio.create_task(found())
        # Who does not wait has failed by then.
        assert not (await asyncio.wait({finding}, timeout=0.3))[0]
        agent_record.mint_token(mesh.home)
        agent_record.announce(mesh.home, agent_record.Presence(os.getpid(), "http://127.0.0.1:1", time.time(), "0.1.0"))
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
async def test_an_agent_that_is_its_containers_first_process_is_waited_for_before_it_has_its_lock(
    mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setenv("MCPMESH_STATE_DIR", str(mesh.home.parent))
    (tmp_path / "cmdline").write_bytes(first)
    waiting = asyncio.create_task(answering(Invocation("default", Output(False)), tmp_path / "cmdline"))
    # Who does not wait has gone on by then.
    assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
    with agent_record.held(mesh.home):
        agent_record.mint_token(mesh.home)
        agent_record.announce(mesh.home, agent_record.Presence(os.getpid(), "http://127.0.0.1:1", time.time(), "0.1.0"))
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
def test_nobody_waits_for_a_first_process_that_is_not_the_meshs_agent(
    mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setenv("MCPMESH_STATE_DIR", str(mesh.home.parent))
    (tmp_path / "cmdline").write_bytes(first)
    # Who waits has not ended at its first step.
    with pytest.raises(StopIteration):
        answering(Invocation("default", Output(False)), tmp_path / "cmdline").send(None)


def over(status: MeshStatus, *services: str, age: float = 3600.0, every_instance: bool = False) -> bool:
    """Whether a command has nothing to wait for, of an agent of that age."""
    return Serving(services, 60.0 - age, every_instance=every_instance).over(status, 0.0)


@pytest.mark.parametrize(
    "status",
    [
        BOARD,
        replace(NOT_BEGUN, services=(), catalog_error="mesh.yaml:3: no command"),
        replace(NOT_BEGUN, services=(replace(STARTING, state=State.FAILED),)),
        replace(NOT_BEGUN, services=(replace(STARTING, state=State.UNKNOWN),)),
        replace(BOARD, paused=True, services=(STARTING,)),
    ],
)
def test_nobody_waits_where_waiting_helps_nothing(status: MeshStatus) -> None:
    assert over(status, age=0.0)


def test_up_ends_where_an_agent_cannot_begin_and_not_where_consul_is_away() -> None:
    unknown = (replace(FILES, state=State.UNKNOWN),)
    assert Settling(("files",)).over(replace(NOT_BEGUN, services=unknown), 0.0)
    assert not Settling(("files",)).over(replace(BOARD, services=unknown), 0.0)


def test_a_failure_that_passes_ends_no_waiting_while_the_agent_is_young() -> None:
    serving, failed = Serving((), 60.0, every_instance=True), replace(BOARD, services=(FILES, POSTGRES))
    assert not serving.over(failed, 1.0)
    assert not serving.over(failed, 5.0)
    assert serving.over(failed, 6.0)
    assert over(failed, "files", age=0.0)
    assert over(failed)


def test_a_failure_that_passes_does_not_end_up() -> None:
    settling, failed = Settling(("files",)), replace(BOARD, services=(replace(FILES, state=State.FAILED),))
    assert not settling.over(failed, 100.0)
    assert not settling.over(replace(BOARD, services=(replace(FILES, state=State.STARTING),)), 104.0)
    assert not settling.over(failed, 105.0)
    assert not settling.over(failed, 109.0)
    assert settling.over(failed, 110.0)
    assert settling.over(BOARD, 111.0)


def test_a_service_that_comes_and_goes_is_not_waited_for_for_ever() -> None:
    settling, failed = Settling(("files",)), replace(BOARD, services=(replace(FILES, state=State.FAILED),))
    starting = replace(BOARD, services=(replace(FILES, state=State.STARTING),))
    over = [settling.over(failed if now % 4 < 2 else starting, float(now)) for now in range(36)]
    assert over.index(True) == 32


def test_what_failed_once_takes_nothing_from_the_time_of_the_ingress() -> None:
    settling, failed = Settling(("files",)), replace(BOARD, services=(replace(FILES, state=State.FAILED),))
    assert not settling.over(failed, 0.0)
    assert not settling.over(replace(BOARD, services=(replace(FILES, state=State.STARTING),)), 2.0)
    assert not settling.over(NO_ROUTE_YET, 60.0)
    assert settling.over(BOARD, 61.0)


def test_services_are_waited_for_while_the_agent_is_young() -> None:
    assert not over(replace(BOARD, services=()), age=5.0)
    assert not over(replace(BOARD, services=()), "files", age=5.0)
    assert over(replace(BOARD, services=()))


def test_an_unknown_service_is_not_waited_for() -> None:
    assert over(replace(BOARD, in_sync=False), "fils", age=0.0)


def test_a_service_is_waited_for_and_no_other_one() -> None:
    status = replace(BOARD, in_sync=False, services=(FILES, replace(STARTING, name="time")))
    assert over(status, "files", age=0.0)
    assert not over(status, "time")
    assert not over(status)


def test_the_ingress_is_waited_for_while_the_agent_is_young_and_not_where_it_broke_later() -> None:
    assert not over(NO_ROUTE_YET, age=5.0)
    assert not over(NO_ROUTE_YET, "files", age=5.0)
    assert over(NO_ROUTE_YET)


def test_the_ingress_has_its_time_after_what_started() -> None:
    serving = Serving((), 0.0, every_instance=False)
    assert not serving.over(replace(BOARD, services=(STARTING,)), 300.0)
    assert not serving.over(NO_ROUTE_YET, 301.0)
    assert serving.over(NO_ROUTE_YET, 331.0)
    assert serving.over(BOARD, 302.0)


def test_one_instance_serves_calls_and_all_are_verified() -> None:
    growing = replace(
        FILES, state=State.DEGRADED, ready=1, instances=(*FILES.instances, InstanceStatus("files-3", State.STARTING))
    )
    status = replace(BOARD, in_sync=False, services=(growing,))
    assert over(status, "files")
    assert not over(status, "files", every_instance=True)


def test_an_agent_whose_catalog_is_not_there_yet_says_so_and_goes_down(mesh: Mesh) -> None:
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
        # A person who starts one is told at once.
        assert mesh.run("up", "-f", str(absent)).exit_code == 2
        assert mesh.run("down").exit_code == 0
        assert agent.wait(SECONDS) == 0
