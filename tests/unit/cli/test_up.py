"""`up` shows what happens, and takes the mesh down completely when it is asked to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.unit.api.fake_operations import FILES, POSTGRES, STATUS
from tests.unit.cli.conftest import FAST, SECONDS, Agent, Command, Mesh, read_until, until

from mcpmesh.kit.marked_process import Mark, find_marked, spawn
from mcpmesh.model.agent_reports import Level
from mcpmesh.model.mesh_status import State

STARTING = replace(FILES, state=State.STARTING)


@pytest.fixture
def running(mesh: Mesh, agent: Agent) -> Agent:
    """An agent that has the catalog of the test."""
    agent.operations.mesh_status = replace(STATUS, sources=(str(mesh.catalog),))
    return agent


@pytest.fixture
def foreground(mesh: Mesh, running: Agent) -> Iterator[Command]:
    """`up`, attached to the agent, after it has shown the table."""
    with mesh.start("up") as process:
        read_until(process, "Ctrl-C takes it down")
        try:
            yield process
        finally:
            process.kill()


def test_it_attaches_to_a_mesh_of_the_same_catalog(mesh: Mesh, running: Agent) -> None:
    result = mesh.run("up", "-f", str(mesh.catalog), "--detach")
    assert result.exit_code == 0
    assert f'mesh "default" runs already (process {os.getpid()}): attached' in result.stderr
    assert "files    2/2        ready" in result.stdout


def test_a_mesh_of_another_catalog_is_left_alone(mesh: Mesh, agent: Agent) -> None:
    result = mesh.run("up", "-f", str(mesh.catalog), "--detach")
    assert result.exit_code == 6
    assert "it runs already, from /etc/mesh.yaml; take that down first: mcpmesh down" in result.stderr
    assert agent.operations.asked == []


def test_a_bad_catalog_starts_nothing(mesh: Mesh) -> None:
    mesh.catalog.write_text("version: 1\nservices:\n  files:\n    comand: cat\n")
    result = mesh.run("up", "-f", str(mesh.catalog))
    assert result.exit_code == 2
    assert f"error: {mesh.catalog}:4: " in result.stderr
    assert not mesh.home.exists()


def test_a_folder_without_a_catalog_is_an_error(mesh: Mesh) -> None:
    mesh.catalog.unlink()
    with mesh.start("up") as process:
        assert "it has neither mesh.yaml nor .mcp.json" in read_until(process, "error:")
        assert process.wait(SECONDS) == 2


def test_the_default_catalog_is_mesh_yaml_then_mcp_json(mesh: Mesh, running: Agent) -> None:
    with mesh.start("up", "--detach") as process:
        read_until(process, "ready")
        assert process.wait(SECONDS) == 0
    mesh.catalog.unlink()
    (mesh.folder / ".mcp.json").write_text('{"mcpServers": {"files": {"command": "cat"}}}')
    with mesh.start("up", "--detach") as process:
        assert ".mcp.json" in read_until(process, "error:")
        assert process.wait(SECONDS) == 6


def test_it_waits_for_every_service_and_says_what_failed(mesh: Mesh, running: Agent) -> None:
    mesh.catalog.write_text(mesh.catalog.read_text() + "  postgres:\n    command: cat\n")
    starting = replace(POSTGRES, state=State.STARTING, detail="", instances=())
    running.operations.mesh_status = replace(running.operations.mesh_status, services=(FILES,), in_sync=False)
    with mesh.start("up", "--detach", clock=FAST) as process:
        read_until(process, "waiting for mesh")
        running.operations.mesh_status = replace(running.operations.mesh_status, services=(FILES, starting))
        running.do(running.operations.say("starting", Level.PROGRESS, "postgres"))
        assert "postgres: starting" in read_until(process, "postgres: starting")
        running.operations.mesh_status = replace(running.operations.mesh_status, services=(FILES, POSTGRES))
        assert "✗ postgres: cannot start" in read_until(process, "✗ postgres")
        read_until(process, "stop it with: mcpmesh down")
        assert process.wait(SECONDS) == 4


def test_waiting_ends_after_the_timeout(mesh: Mesh, running: Agent) -> None:
    running.operations.mesh_status = replace(
        running.operations.mesh_status, services=(replace(FILES, state=State.STARTING),)
    )
    result = mesh.run("up", "-f", str(mesh.catalog), "--detach", "--timeout", "1", clock=FAST)
    assert result.exit_code == 4
    assert "starting" in result.stdout


def test_once_it_is_up_changes_and_troubles_are_shown_and_progress_is_not(running: Agent, foreground: Command) -> None:
    running.do(running.operations.say("looks at files", Level.PROGRESS, "files"))
    running.do(running.operations.say("died: exit code 1", Level.TROUBLE, "files"))
    running.do(running.operations.say("files: ready again", Level.CHANGE, "files"))
    assert read_until(foreground, "ready again") == "! files: died: exit code 1\nfiles: ready again\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_the_mesh_down(running: Agent, foreground: Command, number: signal.Signals) -> None:
    foreground.send_signal(number)
    printed = read_until(foreground, 'mesh "default" is down')
    assert "files: drained\ningress: stopped\n" in printed
    assert foreground.wait(SECONDS) == 0
    assert running.operations.asked[-1] == ("down",)


def test_a_second_signal_shows_what_is_awaited_and_a_third_ends_the_command(
    running: Agent, foreground: Command
) -> None:
    running.operations.may_end.clear()
    foreground.send_signal(signal.SIGINT)
    read_until(foreground, "files: drained")
    foreground.send_signal(signal.SIGINT)
    assert "still waiting: files: drained" in read_until(foreground, "leaves at once")
    foreground.send_signal(signal.SIGINT)
    assert "to finish: mcpmesh down" in read_until(foreground, "to finish")
    assert foreground.wait(SECONDS) == 130
    running.do(_allow(running))


async def _allow(agent: Agent) -> None:
    agent.operations.may_end.set()


def test_up_ends_when_another_command_takes_the_mesh_down(mesh: Mesh, running: Agent, foreground: Command) -> None:
    assert mesh.run("down").exit_code == 0
    read_until(foreground, 'mesh "default" was taken down')
    assert foreground.wait(SECONDS) == 0


def test_a_pipe_that_closes_takes_the_mesh_down(running: Agent, foreground: Command) -> None:
    assert foreground.stdout is not None
    foreground.stdout.close()
    running.do(running.operations.say("files: ready again"))
    assert foreground.wait(SECONDS) == 0
    assert running.operations.asked[-1] == ("down",)


@pytest.fixture
def server(mesh: Mesh) -> Iterator[int]:
    """A process that the agent of the mesh has started for "files"."""
    mark = Mark("default", str(mesh.home), "shim", "files-1", "files")
    pid = spawn(mark, ["sleep", "600"], env={}, log=mesh.home / "logs" / "files.log")
    yield pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not find_marked(mesh.home))


def test_a_dead_agent_is_reported_with_the_end_of_its_log_and_the_next_step(
    mesh: Mesh, running: Agent, server: int, foreground: Command
) -> None:
    (mesh.home / "logs" / "agent.log").write_text("one\nMemoryError: too much\n")
    running.die()
    printed = read_until(foreground, "MemoryError: too much")
    assert f'the agent of mesh "default" (process {os.getpid()}) died; ' in printed
    assert "goes on without it: files (1 process in all)" in printed
    assert "mcpmesh up" in printed
    assert "mcpmesh down" in printed
    assert foreground.wait(SECONDS) == 5


def test_an_agent_that_ends_without_its_mesh_is_an_error(running: Agent, server: int, foreground: Command) -> None:
    running.stop()
    assert "ended without taking it down; what it started goes on without it: files" in read_until(foreground, "error:")
    assert foreground.wait(SECONDS) == 5


def test_events_of_level_detail_are_not_printed(running: Agent, foreground: Command) -> None:
    running.do(running.operations.say("write http-route/files", Level.DETAIL, "files"))
    running.do(running.operations.say("ready", Level.CHANGE, "files"))
    assert read_until(foreground, "ready") == "files: ready\n"


def test_as_json_events_and_the_status_are_lines(mesh: Mesh, running: Agent) -> None:
    with mesh.start("up", "--json", stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["status"]["name"] == "default"
        running.do(running.operations.say("files: ready again"))
        assert json.loads(process.stdout.readline())["event"]["sentence"] == "files: ready again"
        process.send_signal(signal.SIGTERM)
        printed = [json.loads(line) for line in process.stdout]
        assert printed[-1] == {"down": {"mesh": "default"}}
        assert process.wait(SECONDS) == 0


def test_a_signal_while_detaching_leaves_the_mesh_running(mesh: Mesh, running: Agent) -> None:
    running.operations.mesh_status = replace(
        running.operations.mesh_status, services=(replace(FILES, state=State.STARTING),)
    )
    with mesh.start("up", "--detach") as process:
        read_until(process, "waiting for mesh")
        until(lambda: ("events", 0, True) in running.operations.asked)
        process.send_signal(signal.SIGINT)
        assert "mcpmesh status" in read_until(process, "the mesh goes on starting")
        assert process.wait(SECONDS) == 130
    assert ("down",) not in running.operations.asked
