"""Commands while a mesh is starting, and an agent that starts with a catalog that can't be used."""

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
    """An agent started as by systemd or a container; the block begins once commands can see that it is starting."""
    with (mesh.folder / "output").open("ab") as file:
        agent = subprocess.Popen(
            mesh.argv("agent", "-f", str(mesh.catalog)),
            env=mesh.env,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        wait_for("an agent starts", lambda: is_starting(mesh, agent))
        yield agent
    finally:
        agent.terminate()
        agent.wait(180)


def is_starting(mesh: RealMesh, agent: subprocess.Popen[bytes]) -> bool:
    """Whether that agent holds the mesh's lock, and not an earlier one that is about to end."""
    record = agent_record.read(mesh.home)
    return agent_lock.is_held(mesh.home) and (record is None or record.pid == agent.pid)


def pids(mesh: RealMesh) -> set[int]:
    return mesh.lasting() - mesh.pids("agent")


def now(mesh: RealMesh) -> str:
    return json.dumps(call(f"{mesh.ingress}/mcp/clock", "get_current_time", {"timezone": "UTC"}))


def uptime(mesh: RealMesh) -> float:
    """Seconds since the agent's API began to answer."""
    record = agent_record.read(mesh.home)
    assert record is not None
    return time.time() - record.started


def test_status_verify_and_call_in_a_row_while_the_mesh_is_starting(mesh: RealMesh) -> None:
    gate, notes = mesh.folder / "gate", mesh.folder / "notes"
    waits = ["-c", f'while [ ! -e "{gate}" ]; do sleep 0.1; done; exec "$0"', str(TIME_SERVER)]
    other = {"command": "sh", "args": waits, "timeouts": {"start": "1h"}}
    write(mesh.catalog, {"services": {**CATALOG["services"], "other": other}})
    with agent_of(mesh):
        assert "clock" in mesh.run("status", code=NOT_READY).stdout
        with notes.open("w") as stderr:
            verifying = subprocess.Popen(
                mesh.argv("verify"), env=mesh.env, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        wait_for("verify waits", lambda: 'waiting until mesh "default" is ready' in notes.read_text())
        gate.touch()
        claims, _ = verifying.communicate(timeout=180)
        assert verifying.returncode == 0 and ", 0 failed" in claims, claims + notes.read_text()
        assert "UTC" in mesh.run("call", "clock", "get_current_time", '{"timezone": "UTC"}').stdout
        mesh.down()


def test_call_and_scale_while_the_mesh_is_starting_wait_only_for_what_they_need(mesh: RealMesh) -> None:
    mute, program = python_program("mute.py")
    starting = {"command": [mute, program], "timeouts": {"start": "1h"}}
    write(mesh.catalog, {"services": {**CATALOG["services"], "mute": starting}})
    with agent_of(mesh):
        assert "clock: 1" in mesh.run("scale", "clock=1").stdout
        assert "UTC" in mesh.run("call", "clock", "get_current_time", '{"timezone": "UTC"}').stdout
        assert mesh.service("mute")["state"] == "starting"
        mesh.down()


def test_an_agent_with_a_bad_catalog_changes_nothing_until_the_file_is_corrected(
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
        # With a good catalog the agent would have done two reconcile passes in this time.
        wait_for("two passes would have been done", lambda: now(mesh) and uptime(mesh) > 12)
        assert mesh.undisturbed(before, role="agent")
        write(mesh.catalog, text)
        mesh.wait_until_ready()
        assert mesh.undisturbed(before, role="agent") and mesh.status()["catalog_error"] is None
        assert agent.poll() is None
        mesh.down()
    assert mesh.processes() == []


def test_an_agent_that_cannot_start_its_work_does_not_report_what_runs_as_failed(mesh: RealMesh) -> None:
    mesh.up()
    before = pids(mesh)
    mesh.kill(mesh.agent)
    wait_for("the agent is gone", lambda: not mesh.processes("agent"))
    write(mesh.catalog, {"services": {**CATALOG["services"], "fresh": the_time()}})
    mesh.environment = {"MCPMESH_CONSUL__BINARY": str(mesh.folder / "none")}
    with agent_of(mesh):
        mesh.environment = {}
        mesh.run("status", code=NOT_READY)
        wait_for("the reason is reported", lambda: mesh.service("fresh")["state"] == "failed")
        clock = mesh.service("clock")
        assert clock["state"] == "unknown" and "it runs, but no agent manages it: " in clock["detail"]
        assert "UTC" in now(mesh) and mesh.undisturbed(before, role="agent")
    mesh.up()
    assert mesh.undisturbed(before, role="agent", service="fresh")
    mesh.down()


def test_down_drains_and_leaves_nothing_though_the_agent_has_no_catalog(mesh: RealMesh) -> None:
    mesh.up()
    mesh.kill(mesh.agent)
    wait_for("the agent is gone", lambda: not mesh.processes("agent"))
    mesh.catalog.unlink()
    with agent_of(mesh):
        assert "does not exist" in mesh.run("status", code=NOT_READY).stdout
        done = mesh.down()
    assert "ended last: consul" in done.stderr
    assert mesh.processes() == []
