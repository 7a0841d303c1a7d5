from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.e2e import leftovers
from tests.e2e.composed import API_GATEWAY, KONG_IMAGE, ROOT, Composed, consul_program, docker, until
from tests.support.ports import OWN_PORTS

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


def pytest_report_header() -> str:
    """Names the Kong of the run; a stand-in has a label that says so."""
    label = '{{index .Config.Labels "mcpmesh.stand-in"}}'
    if shutil.which("docker") is None:
        return f"{KONG_IMAGE}: not known, since there is no docker here"
    done = subprocess.run(["docker", "image", "inspect", "--format", label, KONG_IMAGE], capture_output=True, text=True)
    if done.returncode != 0:
        return f"{KONG_IMAGE}: there is no such image yet"
    return f"{KONG_IMAGE}: {'a stand-in (tests/support/kong), not Kong' if done.stdout.strip() else 'the image itself'}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders tests: those with a mesh of their own, those that share one, and last those that take it down."""

    def turn(item: pytest.Item) -> tuple[bool, bool]:
        return "mesh" in getattr(item, "fixturenames", ()), item.get_closest_marker("last") is not None

    items.sort(key=turn)


@pytest.fixture(scope="session")
def alone() -> Iterator[None]:
    """Keeps other runs of these tests out, and removes leftovers of an earlier one."""
    with leftovers.alone():
        yield


@pytest.fixture(scope="session")
def image(alone: None) -> str:
    """Our image, built from this checkout unless MCPMESH_TEST_IMAGE names one; `make e2e` provides its base images."""
    if given := os.environ.get("MCPMESH_TEST_IMAGE"):
        return given
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    # It downloads from several places; a retry does not repeat finished steps.
    for _ in range(3):
        done = subprocess.run(
            ["docker", "build", "-q", "-t", "mcpmesh:e2e", str(ROOT)], env=environment, capture_output=True, text=True
        )
        if done.returncode == 0:
            return "mcpmesh:e2e"
        time.sleep(5)
    raise AssertionError(done.stdout[-2000:] + done.stderr[-3000:])


@pytest.fixture(scope="session")
def clock_image(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image like public ones: an entrypoint that speaks MCP, a user, default arguments."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "Dockerfile").write_text(
        f'FROM {image}\nUSER 12345\nENTRYPOINT ["mcp-server-time"]\nCMD ["--local-timezone", "UTC"]\n'
    )
    docker("build", "-q", "-t", "mcpmesh-e2e-clock:1", str(folder))
    yield "mcpmesh-e2e-clock:1"
    docker("rmi", "-f", "mcpmesh-e2e-clock:1", check=False)


@pytest.fixture(scope="session")
def mesh(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """The mesh of compose.yaml, up, with Kong as the ingress."""
    with composed("mcpmesh-e2e", image, tmp_path_factory.mktemp("mesh")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway_mesh(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """The same with the API gateway as the ingress."""
    with composed("mcpmesh-e2e-gateway", image, tmp_path_factory.mktemp("gateway-mesh"), API_GATEWAY) as running:
        yield running


@contextmanager
def composed(name: str, image: str, folder: Path, *overrides: Path) -> Iterator[Composed]:
    """compose.yaml and these files, up and ready with CATALOG in `folder`; taken down at the end."""
    folder.chmod(0o755)
    shutil.copytree(ROOT / "examples" / "files", folder / "files")
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    found = Composed(
        project=f"{name}-{os.urandom(4).hex()}",
        files=[ROOT / "compose.yaml", *overrides],
        folder=folder,
        ingress_port=OWN_PORTS.take(),
        consul_port=OWN_PORTS.take(),
        consul_binary=consul_program(),
        environment={"MCPMESH_IMAGE": image},
    )
    found.write(CATALOG)
    try:
        found.compose("up", "-d", "--no-build")
        until(found.settled, "a mesh that is ready", 300)
        yield found
    finally:
        if os.environ.get("MCPMESH_E2E_LOGS"):
            Path(os.environ["MCPMESH_E2E_LOGS"]).write_text(found.logs())
        found.compose("down", "-v", "--remove-orphans")


@pytest.fixture(autouse=True)
def as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """The mesh is ready before and after each test."""
    yield
    if "mesh" in request.fixturenames and request.node.get_closest_marker("last") is None:
        composed: Composed = request.getfixturevalue("mesh")
        composed.write(CATALOG)
        # Until the agent has read the catalog, `ready` may refer to what the test has written.
        composed.read()
        until(composed.settled, f"a mesh that is whole after {request.node.name}")
