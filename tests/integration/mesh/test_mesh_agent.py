"""The agent is off the request path: without it no call fails, and the next agent adopts what runs."""

from __future__ import annotations

import signal

import pytest
from tests.integration.mesh.traffic import call, load
from tests.support.mesh import NO_AGENT, RealMesh, wait_for


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_call_fails_without_an_agent_and_the_next_adopts_what_runs(mesh: RealMesh, number: signal.Signals) -> None:
    agent, others = mesh.agent, mesh.lasting() - {mesh.agent.pid}
    with load(f"{mesh.ingress}/mcp/everything") as calls:
        mesh.kill(agent, number)
        wait_for("the agent is gone", lambda: not mesh.processes("agent"))
        calls.wait_for_answers(200)
        assert "mcpmesh up" in mesh.run("status", code=NO_AGENT).stderr
        mesh.up()
        mesh.wait_until_ready()
        calls.wait_for_answers(50)
    assert calls.failed == []
    assert mesh.agent.pid != agent.pid
    assert mesh.undisturbed(others, role="agent")


def test_what_died_while_there_was_no_agent_is_healed_by_the_next(mesh: RealMesh) -> None:
    mesh.kill(mesh.agent)
    wait_for("the agent is gone", lambda: not mesh.processes("agent"))
    shim, sidecar = mesh.one("shim", "clock"), mesh.one("sidecar", "clock")
    mesh.kill(shim)
    mesh.kill(sidecar)
    wait_for("they are gone", lambda: not mesh.pids() & {shim.pid, sidecar.pid})
    mesh.up()
    mesh.wait_until_ready()
    assert call(f"{mesh.ingress}/mcp/clock", "get_current_time", {"timezone": "UTC"})


def test_a_second_agent_of_the_same_mesh_is_refused(mesh: RealMesh) -> None:
    agent = mesh.agent
    done = mesh.run("agent", "-f", str(mesh.catalog), code=None)
    assert done.returncode != 0
    assert "runs already" in done.stderr
    assert mesh.agent == agent
    assert mesh.status()["services"]
