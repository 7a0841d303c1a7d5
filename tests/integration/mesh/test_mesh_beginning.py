"""What a person types while a mesh is beginning, and an agent that begins with a catalog that can't be used."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.mesh.traffic import call
from tests.support.mesh import TIME_SERVER, RealMesh, python_program, real_mesh, the_time, wait_for, write

from mcpmesh.api import agent_lock, agent_record

CATALOG = {"services": {"clock": the_time(instances=2), "other": the_time()}}
INPUT, NOT_READY = 2, 4


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RealMesh]:
    """A mesh of two services, not started."""
    with real_mesh(tmp_path, CATALOG) as mesh:
        yield mesh


@contextmanager
def agent_of(mesh: RealMesh) -> Iterator[subprocess.Popen[bytes]]:
    """An agent as systemd or a container starts it, from the moment on when it can be told that there is one."""
    with (mesh.folder / "said").open("ab") as said:
        agent = subprocess.Popen(
            mesh.argv("agent", "-f", str(mesh.catalog)), env=mesh.env, stdout=said, stderr=said, start_new_session=True
        )
    try:
        wait_for("an agent begins", lambda: begins(mesh, agent))
        yield agent
    finally:
        agent.terminate()
        agent.wait(180)


def begins(mesh: RealMesh, agent: subprocess.Popen[bytes]) -> bool:
    """Whether that agent has taken the mesh, and not one that is on its way out."""
    seen = agent_record.read(mesh.home)
    return agent_lock.is_held(mesh.home) and (seen is None or seen.pid == agent.pid)


def pids(mesh: RealMesh) -> set[int]:
    return mesh.lasting() - mesh.pids("agent")


def now(mesh: RealMesh) -> str:
    return json.dumps(call(f"{mesh.ingress}/mcp/clock", "get_current_time", {"timezone": "UTC"}))


def uptime(mesh: RealMesh) -> float:
    """Seconds since the agent announced itself."""
    found = agent_record.read(mesh.home)
    assert found is not None
    return time.time() - found.started


def test_status_verify_and_call_typed_in_a_row_while_it_begins(mesh: RealMesh) -> None:
    gate, told = mesh.folder / "gate", mesh.folder / "told"
    waits = ["-c", f'while [ ! -e "{gate}" ]; do sleep 0.1; done; exec "$0"', str(TIME_SERVER)]
    other = {"command": "sh", "args": waits, "timeouts": {"start": "1h"}}
    write(mesh.catalog, {"services": {**CATALOG["services"], "other": other}})
    with agent_of(mesh):
        assert "clock" in mesh.run("status", code=NOT_READY).stdout
        with told.open("w") as stderr:
            verifying = subprocess.Popen(
                mesh.argv("verify"), env=mesh.env, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        wait_for("verify waits", lambda: 'waiting until mesh "default" is ready' in told.read_text())
        gate.touch()
        said, _ = verifying.communicate(timeout=180)
        assert verifying.returncode == 0 and ", 0 failed" in said, said + told.read_text()
        assert "UTC" in mesh.run("call", "clock", "get_current_time", '{"timezone": "UTC"}').stdout
        mesh.down()


def test_a_call_and_a_number_typed_while_it_begins_wait_for_what_they_need_alone(mesh: RealMesh) -> None:
    mute, program = python_program("mute.py")
    starting = {"command": [mute, program], "timeouts": {"start": "1h"}}
    write(mesh.catalog, {"services": {**CATALOG["services"], "mute": starting}})
    with agent_of(mesh):
        assert "clock: 1" in mesh.run("scale", "clock=1").stdout
        assert "UTC" in mesh.run("call", "clock", "get_current_time", '{"timezone": "UTC"}').stdout
        assert mesh.service("mute")["state"] == "starting"
        mesh.down()


def test_an_agent_with_a_catalog_that_cannot_be_used_touches_nothing_and_goes_on_when_it_is_mended(
    mesh: RealMesh,
) -> None:
    mesh.up()
    before, text = pids(mesh), mesh.catalog.read_text()
    mesh.kill(mesh.agent)
    wait_for("the agent is gone", lambda: not mesh.processes("agent"))
    write(mesh.catalog, text.replace("instances: 2", "instancez: 2"))
    with agent_of(mesh) as agent:
        shown = mesh.run("status", code=NOT_READY).stdout
        line = 1 + mesh.catalog.read_text().splitlines().index("    instancez: 2")
        assert f"{mesh.catalog}:{line}: services.clock.instancez" in shown
        assert "services.clock.instancez" in mesh.run("verify", code=INPUT).stderr
        # Ten seconds and more are two of its looks at a mesh that it looks after.
        wait_for("a pass would have been made", lambda: now(mesh) and uptime(mesh) > 12)
        assert mesh.undisturbed(before, role="agent")
        write(mesh.catalog, text)
        mesh.wait_until_ready()
        assert mesh.undisturbed(before, role="agent") and mesh.status()["catalog_error"] is None
        assert agent.poll() is None
        mesh.down()
    assert mesh.processes() == []


def test_what_runs_is_not_called_failed_by_an_agent_that_cannot_look_after_it(mesh: RealMesh) -> None:
    mesh.up()
    before = pids(mesh)
    mesh.kill(mesh.agent)
    wait_for("the agent is gone", lambda: not mesh.processes("agent"))
    write(mesh.catalog, {"services": {**CATALOG["services"], "fresh": the_time()}})
    mesh.environment = {"MCPMESH_CONSUL__BINARY": str(mesh.folder / "none")}
    with agent_of(mesh):
        mesh.environment = {}
        mesh.run("status", code=NOT_READY)
        wait_for("it was told", lambda: mesh.service("fresh")["state"] == "failed")
        clock = mesh.service("clock")
        assert clock["state"] == "unknown" and "it runs, but no agent manages it: " in clock["detail"]
        assert "UTC" in now(mesh) and mesh.undisturbed(before, role="agent")
    mesh.up()
    assert mesh.undisturbed(before, role="agent", service="fresh")
    mesh.down()


def test_down_of_a_mesh_whose_agent_has_no_catalog_drains_and_leaves_nothing(mesh: RealMesh) -> None:
    mesh.up()
    mesh.kill(mesh.agent)
    wait_for("the agent is gone", lambda: not mesh.processes("agent"))
    mesh.catalog.unlink()
    with agent_of(mesh):
        assert "does not exist" in mesh.run("status", code=NOT_READY).stdout
        said = mesh.down()
    assert "ended last: consul" in said.stderr
    assert mesh.processes() == []
