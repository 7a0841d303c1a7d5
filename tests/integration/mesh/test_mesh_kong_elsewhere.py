"""A mesh with an external Kong as its ingress: only its document is ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.integration.mesh.traffic import modern
from tests.support.kong.running import WAITING, RunningKong, running_kong
from tests.support.mesh import RealMesh, real_mesh, the_time, wait_for


@pytest.fixture
def kong(tmp_path: Path) -> Iterator[RunningKong]:
    with running_kong(tmp_path) as running:
        httpx.post(f"{running.admin}/config", json={"config": WAITING.read_text()}, trust_env=False, timeout=30)
        yield running


@pytest.fixture
def mesh(tmp_path: Path, kong: RunningKong) -> Iterator[RealMesh]:
    proxy = httpx.URL(kong.proxy)
    environment = {
        "MCPMESH_INGRESS__KIND": "kong",
        "MCPMESH_KONG__ADMIN": kong.admin,
        "MCPMESH_INGRESS__PORT": str(proxy.port or 80),
    }
    with real_mesh(tmp_path, {"services": {"clock": the_time()}}, environment=environment) as running:
        running.up()
        running.wait_until_ready()
        yield running


def status(kong: RunningKong) -> int:
    headers, body = modern("get_current_time", {"timezone": "UTC"})
    return httpx.post(f"{kong.proxy}/mcp/clock", headers=headers, json=body, trust_env=False, timeout=30).status_code


def test_an_external_kong_has_our_document_while_the_mesh_is_up_and_none_of_our_routes_afterwards(
    mesh: RealMesh, kong: RunningKong
) -> None:
    assert status(kong) == 200
    assert mesh.processes("kong") == []
    assert mesh.claims()
    # A restarted Kong has no document of ours; within seconds it has it again.
    httpx.post(f"{kong.admin}/config", json={"config": WAITING.read_text()}, trust_env=False, timeout=30)
    wait_for("our document is back", lambda: status(kong) == 200)
    mesh.down()
    assert mesh.processes() == []
    answer = httpx.get(f"{kong.proxy}/mcp/clock", trust_env=False, timeout=30)
    assert answer.status_code == 503 and "try again soon" in answer.text
