"""Starting and stopping a mesh, interrupted, by Ctrl-C and after crashes: nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.integration.mesh.traffic import active, call, load, text_of
from tests.support.mesh import NO_AGENT, RealMesh, everything, python_program, real_mesh, the_time, wait_for

CLOCK = {"services": {"clock": the_time()}}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[RealMesh]:
    """A mesh of one service, not started."""
    with real_mesh(tmp_path, CLOCK, name="small") as mesh:
        yield mesh


def nothing_is_left(mesh: RealMesh, ports: set[int]) -> None:
    """No process and no port is left, and only those files that the next start needs, and logs."""
    assert [f"{process.pid} {process.mark.role}" for process in mesh.processes()] == []
    assert mesh.still_held(ports) == set()
    remembered = {"agent.lock", "consul", "envoy", "key", "logs", "ports.json"}
    assert {path.name for path in mesh.home.iterdir()} <= remembered
    assert list(mesh.home.glob("envoy/*")) == []
    assert list(mesh.scratch.iterdir()) == []
    assert mesh.run("status", code=NO_AGENT).stderr.startswith("error: cannot reach the agent")


def test_down_leaves_nothing_and_the_next_start_finds_its_ports_again(small: RealMesh) -> None:
    small.up()
    ingress, consul, ports = small.ingress, small.consul_url, small.held_ports()
    small.down()
    nothing_is_left(small, ports)
    small.up()
    assert (small.ingress, small.consul_url) == (ingress, consul)
    assert call(f"{small.ingress}/mcp/clock", "get_current_time", {"timezone": "UTC"})


def test_down_after_the_agent_was_killed_leaves_nothing(small: RealMesh) -> None:
    small.up()
    ports = small.held_ports()
    small.kill(small.agent)
    done = small.down()
    assert "processes stopped" in done.stdout
    nothing_is_left(small, ports)


def test_down_after_all_but_the_servers_was_killed_leaves_nothing(small: RealMesh) -> None:
    small.up()
    ports = small.held_ports()
    for role in ("agent", "consul", "gateway", "sidecar"):
        small.kill(small.one(role))
    small.down()
    nothing_is_left(small, ports)


def test_down_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    mute, program = python_program("mute.py")
    with real_mesh(tmp_path, {"services": {"mute": {"command": [mute, program]}, "clock": the_time()}}) as mesh:
        starting = starting_in_the_background(mesh)
        wait_for("the servers are starting", lambda: mesh.processes("server"))
        ports = mesh.held_ports()
        mesh.down()
        starting.wait(180)
        nothing_is_left(mesh, ports)


def test_down_before_consul_has_started_leaves_nothing(small: RealMesh) -> None:
    starting = starting_in_the_background(small)
    wait_for("the agent has started", lambda: (small.home / "agent.json").exists())
    small.down()
    starting.wait(180)
    nothing_is_left(small, set())


def starting_in_the_background(mesh: RealMesh) -> subprocess.Popen[bytes]:
    with (mesh.folder / "output").open("w") as file:
        return subprocess.Popen(
            mesh.argv("up", "-f", str(mesh.catalog), "--detach"), env=mesh.env, stdout=file, stderr=file
        )


def test_down_twice_and_of_a_mesh_that_never_ran_is_no_error(small: RealMesh) -> None:
    assert "not running" in small.down().stdout
    small.up()
    small.down()
    assert "not running" in small.down().stdout


def test_ctrl_c_in_the_foreground_drains_and_leaves_nothing(small: RealMesh) -> None:
    with (small.folder / "output").open("w+") as file:
        shown = subprocess.Popen(
            small.argv("up", "-f", str(small.catalog)),
            env=small.env,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        wait_for("the table is shown", lambda: "Ctrl-C takes it down" in (small.folder / "output").read_text())
        ports = small.held_ports()
        with load(f"{small.ingress}/mcp/clock", "get_current_time", {"timezone": "UTC"}, workers=2) as calls:
            shown.send_signal(signal.SIGINT)
            wait_for("up has ended", lambda: shown.poll() is not None)
        assert shown.returncode == 0
    refused = [answer for answer in calls.failed if answer.status]
    # Each call was either answered or could not connect any more.
    assert refused == []
    nothing_is_left(small, ports)


def test_a_running_call_has_the_drain_time_of_its_service_at_down(tmp_path: Path) -> None:
    services = {"everything": everything(timeouts={"drain": "40s"})}
    with real_mesh(tmp_path, {"services": services}) as mesh, ThreadPoolExecutor() as threads:
        mesh.up()
        arguments = {"duration": 16, "steps": 1}
        answer = threads.submit(call, f"{mesh.ingress}/mcp/everything", "trigger-long-running-operation", arguments)
        wait_for("the call is under way", lambda: active(mesh, mesh.one("gateway"), "everything"))
        mesh.down()
        assert "completed" in text_of(answer.result())


def test_up_in_the_foreground_reports_a_dead_agent_and_the_mesh_runs_on(small: RealMesh) -> None:
    with (small.folder / "output").open("w+") as file:
        shown = subprocess.Popen(small.argv("up", "-f", str(small.catalog)), env=small.env, stdout=file, stderr=file)
        wait_for("the table is shown", lambda: "Ctrl-C takes it down" in (small.folder / "output").read_text())
        small.kill(small.agent)
        wait_for("up has ended", lambda: shown.poll() is not None)
    assert shown.returncode == 5
    assert "agent" in (small.folder / "output").read_text()
    assert call(f"{small.ingress}/mcp/clock", "get_current_time", {"timezone": "UTC"})


def test_intentions_of_a_person_survive_down_and_up(small: RealMesh) -> None:
    small.up()
    small.consul("intention", "create", "-replace", "-deny", "ingress", "clock")
    small.consul("intention", "create", "-allow", "stranger", "clock")
    small.down()
    small.up(code=0)
    assert "deny" in small.consul("intention", "get", "ingress", "clock")
    assert "allow" in small.consul("intention", "get", "stranger", "clock")
    with pytest.raises(AssertionError, match="HTTP 403"):
        call(f"{small.ingress}/mcp/clock", "get_current_time", {"timezone": "UTC"})


def test_two_ups_at_once_both_succeed_with_one_agent(small: RealMesh) -> None:
    both = [starting_in_the_background(small) for _ in range(2)]
    assert [process.wait(180) for process in both] == [0, 0]
    # The second agent ends once it finds the lock held; `up` does not wait for that.
    wait_for("one agent is left", lambda: small.one("agent"))
    assert call(f"{small.ingress}/mcp/clock", "get_current_time", {"timezone": "UTC"})
