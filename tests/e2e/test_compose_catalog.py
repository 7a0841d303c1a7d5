"""`docker compose up` with a missing or unusable catalog, and commands right after `up`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.e2e.composed import ROOT, Composed, consul_program, until
from tests.integration.mesh.traffic import call
from tests.support.ports import OWN_PORTS

TIME = {"time": {"command": "mcp-server-time", "args": ["--local-timezone", "UTC"]}}
MISTAKEN = {"time": {"comand": "mcp-server-time"}}


@pytest.fixture
def fresh(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """A project with an empty catalog folder, not up."""
    folder = tmp_path_factory.mktemp("fresh")
    folder.chmod(0o755)
    composed = Composed(
        project=f"mcpmesh-e2e-fresh-{os.urandom(4).hex()}",
        files=[ROOT / "compose.yaml", ROOT / "compose.api-gateway.yaml"],
        folder=folder,
        ingress_port=OWN_PORTS.take(),
        consul_port=OWN_PORTS.take(),
        consul_binary=consul_program(),
        environment={"MCPMESH_IMAGE": image},
    )
    try:
        yield composed
    finally:
        composed.compose("down", "-v", "--remove-orphans")


def test_a_mesh_without_a_catalog_says_so_and_starts_once_there_is_one(fresh: Composed) -> None:
    fresh.compose("up", "-d", "--no-build")
    assert "/mesh/mesh.yaml: does not exist" in fresh.mcpmesh("status", code=4)
    fresh.mcpmesh("verify", code=2)
    fresh.write(MISTAKEN)
    until(lambda: "/mesh/mesh.yaml:5: services.time.comand: " in fresh.mcpmesh("status", code=4), "the mistake told")
    assert fresh.containers() == []
    fresh.write(TIME)
    until(fresh.settled, "a mesh that has begun")
    # While no catalog can be read, nothing that runs is stopped.
    before = fresh.ids()
    fresh.write(MISTAKEN)
    fresh.compose("restart", "agent")
    assert "no catalog that can be used" in fresh.mcpmesh("status", code=4)
    assert call(f"{fresh.ingress}/mcp/time", "get_current_time", {"timezone": "UTC"})
    assert fresh.ids() == before
    fresh.compose("down", "-v")
    assert fresh.left() == []


def test_verify_right_after_up_waits_for_the_mesh(fresh: Composed) -> None:
    fresh.write(TIME)
    fresh.compose("up", "-d", "--no-build")
    assert ", 0 failed" in fresh.mcpmesh("verify")
    fresh.compose("down", "-v")
    assert fresh.left() == []
