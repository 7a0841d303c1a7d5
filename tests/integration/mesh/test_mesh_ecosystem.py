"""The `.mcp.json` that people have, beside another mesh on the same machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.mesh.traffic import call
from tests.support.mesh import EVERYTHING, NOT_READY, OK, TIME_SERVER, RealMesh, real_mesh, wait_for

BROKEN = {
    "absent": {"command": "a-runtime-that-nobody-has", "args": ["x"]},
    "nowhere": {"command": "/nowhere/server"},
    "dying": {"command": "/bin/sh", "args": ["-c", "echo my last words >&2; exit 3"]},
}


@pytest.fixture(scope="module")
def neighbour(mesh: RealMesh, tmp_path_factory: pytest.TempPathFactory, outside: dict[str, int]) -> Iterator[RealMesh]:
    """A second mesh under the same state folder, from a .mcp.json of which a part cannot run."""
    folder = tmp_path_factory.mktemp("neighbour")
    servers = {
        "everything": {"type": "stdio", "command": str(EVERYTHING), "args": ["stdio"], "env": {"A": "b"}},
        "time": {"command": str(TIME_SERVER), "args": ["--local-timezone", "UTC"], "alwaysAllow": ["x"]},
        "off": {"command": "a-runtime-that-nobody-has", "disabled": True},
        **BROKEN,
    }
    catalog = folder / ".mcp.json"
    catalog.write_text(json.dumps({"mcpServers": servers}))
    with real_mesh(folder, name="neighbour", state=mesh.state) as second:
        second.up(catalog, code=NOT_READY)
        yield second


def test_what_can_run_runs_and_the_rest_fails_alone_with_its_reason(neighbour: RealMesh) -> None:
    def told() -> dict[str, Any]:
        lines = {line["name"]: line for line in neighbour.status()["services"]}
        states = {"everything": "ready", "time": "ready", **dict.fromkeys(BROKEN, "failed")}
        assert {name: line["state"] for name, line in lines.items()} == states
        assert "a-runtime-that-nobody-has is not on PATH" in lines["absent"]["detail"]
        assert "/nowhere/server does not exist" in lines["nowhere"]["detail"]
        assert "my last words" in lines["dying"]["detail"]
        return lines

    wait_for("what can run runs, and the rest tells why it cannot", told)
    assert "a-runtime-that-nobody-has is not on PATH" in neighbour.output
    assert text("everything", "echo", {"message": "hello"}, neighbour)
    assert text("time", "get_current_time", {"timezone": "UTC"}, neighbour)
    neighbour.run("status", code=NOT_READY)


def text(service: str, tool: str, arguments: dict[str, str], mesh: RealMesh) -> object:
    return call(f"{mesh.ingress}/mcp/{service}", tool, arguments)


def test_unknown_keys_are_named(neighbour: RealMesh) -> None:
    assert any("alwaysAllow" in warning for warning in neighbour.status()["warnings"])


def test_the_second_mesh_has_other_ports_and_says_so(mesh: RealMesh, neighbour: RealMesh) -> None:
    assert neighbour.ingress != mesh.ingress
    assert neighbour.consul_url != mesh.consul_url
    port = neighbour.ingress.rpartition(":")[2]
    assert port == "8000" or f"port 8000 is taken, so the ingress is at {port}" in neighbour.output


def test_neither_mesh_disturbs_the_other(mesh: RealMesh, neighbour: RealMesh) -> None:
    mine = mesh.lasting()
    assert mine.isdisjoint(neighbour.pids())
    # Services of one name are each mesh's own.
    pids = {text_pid(mesh), text_pid(neighbour)}
    assert len(pids) == 2
    neighbour.down()
    assert neighbour.processes() == []
    wait_for("all is well", lambda: mesh.run("status", code=None).returncode == OK)
    assert mesh.undisturbed(mine)
    assert text("everything", "echo", {"message": "hello"}, mesh)


def text_pid(mesh: RealMesh) -> str:
    return str(call(f"{mesh.ingress}/mcp/everything", "get-env"))
