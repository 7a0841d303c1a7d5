from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.composed import ROOT, Composed, consul_program, docker, until

from mcpmesh.kit.ports import Ports

CATALOG = {
    "files": {"command": "mcp-server-filesystem", "args": ["."], "cwd": "./files"},
    "memory": {
        "command": "mcp-server-memory",
        "env": {"MEMORY_FILE_PATH": "/data/memory.jsonl", "SECRET": "file:secret"},
        "isolation": "shared",
        "allow": ["sequentialthinking"],
    },
    "sequentialthinking": {"command": "mcp-server-sequential-thinking", "upstreams": ["memory"]},
    "time": {"command": "mcp-server-time", "args": ["--local-timezone", "UTC"]},
}
SECRET = "correct-horse-battery-staple"


@pytest.fixture(scope="session")
def image() -> str:
    """Our image, made of this checkout unless MCPMESH_TEST_IMAGE names one; `make e2e` sees to what it is made of."""
    if given := os.environ.get("MCPMESH_TEST_IMAGE"):
        return given
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(
        ["docker", "build", "-q", "-t", "mcpmesh:e2e", str(ROOT)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return "mcpmesh:e2e"


@pytest.fixture(scope="session")
def clock_image(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A public image as others make them: an entrypoint that speaks MCP, a user, default arguments."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "Dockerfile").write_text(
        f'FROM {image}\nUSER 12345\nENTRYPOINT ["mcp-server-time"]\nCMD ["--local-timezone", "UTC"]\n'
    )
    docker("build", "-q", "-t", "mcpmesh-e2e-clock:1", str(folder))
    yield "mcpmesh-e2e-clock:1"
    docker("rmi", "-f", "mcpmesh-e2e-clock:1", check=False)


@pytest.fixture(scope="session")
def mesh(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """The mesh of compose.yaml, up; with Kong where its image is here, else with the API gateway."""
    folder = tmp_path_factory.mktemp("mesh")
    folder.chmod(0o755)
    shutil.copytree(ROOT / "examples" / "files", folder / "files")
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    kong = docker("image", "ls", "-q", "kong:3.9", check=False)
    files = [ROOT / "compose.yaml", *([] if kong else [ROOT / "compose.api-gateway.yaml"])]
    ports = Ports(28000)
    composed = Composed(
        project=f"mcpmesh-e2e-{os.getpid()}",
        files=files,
        folder=folder,
        ingress_port=ports.take(),
        consul_port=ports.take(),
        consul_binary=consul_program(),
        environment={"MCPMESH_IMAGE": image},
    )
    composed.write(CATALOG)
    try:
        composed.compose("up", "-d", "--no-build")
        until(composed.settled, "a mesh that is ready", 180)
        yield composed
    finally:
        if os.environ.get("MCPMESH_E2E_LOGS"):
            Path(os.environ["MCPMESH_E2E_LOGS"]).write_text(docker("logs", f"{composed.project}-agent-1", check=False))
        composed.compose("down", "-v", "--remove-orphans")


@pytest.fixture(autouse=True)
def as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test finds the mesh whole, and leaves it so."""
    yield
    if "mesh" in request.fixturenames and request.node.get_closest_marker("last") is None:
        composed: Composed = request.getfixturevalue("mesh")
        composed.write(CATALOG)
        until(composed.settled, f"a mesh that is whole after {request.node.name}", 120)
