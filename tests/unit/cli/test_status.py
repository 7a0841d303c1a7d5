"""`status` shows what the agent observed, fits the terminal, and its exit code says whether all is ready."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import pytest
from tests.unit.api.fake_operations import FILES, POSTGRES, STATUS
from tests.unit.cli.conftest import SECONDS, Agent, Mesh, read_until

from mcpmesh.cli.render.status_table import status_lines
from mcpmesh.cli.status_checks import all_ready
from mcpmesh.model.mesh_status import MeshStatus, State

BOTH = replace(STATUS, services=(FILES, POSTGRES))


def text(status: MeshStatus, width: int | None = None) -> str:
    return "\n".join("".join(words for words, _ in line) for line in status_lines(status, width))


def test_a_mesh_that_is_ready(mesh: Mesh, agent: Agent) -> None:
    result = mesh.run("status")
    assert result.exit_code == 0
    assert result.stdout == (
        "mesh default: 1 service is ready\n"
        "\n"
        "SERVICE  INSTANCES  HEALTH  TOOLS  ADDRESS\n"
        "files    2/2        ready   14     http://127.0.0.1:8000/mcp/files\n"
        "\n"
        "ingress  http://127.0.0.1:8000  ready\n"
        "consul   http://127.0.0.1:11091/ui  ready\n"
    )
    assert result.stderr == ""


def test_a_service_that_failed_has_its_reason_beneath(mesh: Mesh, agent: Agent) -> None:
    agent.operations.mesh_status = BOTH
    result = mesh.run("status")
    assert result.exit_code == 4
    assert "postgres  0/1        failed  -      http://127.0.0.1:8000/mcp/postgres\n" in result.stdout
    assert (
        '\n✗ postgres: cannot start "postgres": program mcp-server-postgres is not installed; npm install it\n'
        in result.stdout
    )
    assert "1 of 2 services ready" in result.stdout


def test_json_is_the_whole_status_and_nothing_else(mesh: Mesh, agent: Agent) -> None:
    agent.operations.mesh_status = BOTH
    result = mesh.run("--json", "status")
    assert result.exit_code == 4
    printed = json.loads(result.stdout)
    assert [service["name"] for service in printed["services"]] == ["files", "postgres"]
    assert printed["services"][0]["instances"][0]["sidecar_port"] == 11101
    assert result.stderr == ""


@pytest.mark.parametrize(
    "changed",
    [
        replace(STATUS, catalog_error="mesh.yaml:3: no command"),
        replace(STATUS, consul_ready=False),
        replace(STATUS, ingress_ready=False),
        replace(STATUS, services=(replace(FILES, state=State.STARTING),)),
        replace(STATUS, services=(replace(FILES, state=State.UNKNOWN),)),
        replace(STATUS, services=(replace(FILES, state=State.DEGRADED),)),
    ],
)
def test_anything_that_is_not_ready_makes_the_mesh_not_ready(changed: MeshStatus) -> None:
    assert not all_ready(changed)


def test_a_draining_service_does_not_count() -> None:
    assert all_ready(replace(STATUS, services=(FILES, replace(POSTGRES, state=State.DRAINING))))


def test_a_broken_catalog_and_warnings_are_shown() -> None:
    shown = text(replace(STATUS, catalog_error="/m.yaml:3: no command", warnings=("key 'x' is unknown",)))
    assert "✗ the catalog was not applied, the last good one stays in force: /m.yaml:3: no command" in shown
    assert "! key 'x' is unknown" in shown


def test_a_paused_mesh_shows_how_to_resume() -> None:
    assert "paused (go on with: mcpmesh resume)" in text(replace(STATUS, paused=True))


@pytest.mark.parametrize("width", [72, 80, 100])
def test_every_line_fits_the_terminal(width: int) -> None:
    long = replace(
        FILES, name="sequentialthinking", address="http://127.0.0.1:8000/mcp/sequentialthinking", wanted=10, ready=10
    )
    lines = text(replace(BOTH, services=(long, POSTGRES, FILES)), width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("/mcp/sequentialthinking" in line for line in lines)


def test_a_pipe_gets_whole_lines() -> None:
    reason = "cannot start: " + "a long reason " * 20
    shown = text(replace(STATUS, services=(replace(POSTGRES, detail=reason, instances=()),)))
    assert f"✗ postgres: {reason}" in shown


def test_watching_as_json_gives_a_line_for_each_change_and_ends_by_interrupt(mesh: Mesh, agent: Agent) -> None:
    with mesh.start("status", "--watch", "--json") as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["paused"] is False
        agent.operations.mesh_status = replace(STATUS, paused=True)
        agent.do(agent.operations.say("paused"))
        assert json.loads(watching.stdout.readline())["paused"] is True
        watching.send_signal(signal.SIGINT)
        assert watching.wait(SECONDS) == 0


def test_watching_ends_with_the_agent(mesh: Mesh, agent: Agent) -> None:
    with mesh.start("status", "--watch") as watching:
        read_until(watching, "consul")
        agent.die()
        assert "died without taking its services down" in read_until(watching, "error:")
        assert watching.wait(SECONDS) == 3
