"""Meshes that several tests share; each test leaves its mesh as it found it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest
from tests.support.mesh import (
    EVERYTHING,
    RealMesh,
    everything,
    python_program,
    real_mesh,
    the_time,
    wait_for,
)
from tests.support.ports import OWN_PORTS

SECRET = "s3cret-that-nobody-may-see"
FILED_SECRET = "filed-s3cret-that-nobody-may-see"
# How long an open connection goes by an old rule if nothing else ends it, and what is under way may take to end: long
# enough that neither is over when something stands still for a while.
DRAIN_SECONDS = 60


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def outside() -> Iterator[dict[str, int]]:
    """What runs already, and is none of the mesh's: a plain HTTP service and an MCP server on HTTP; their ports."""
    ports = {"web": OWN_PORTS.take(), "mcp": OWN_PORTS.take()}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    web = subprocess.Popen(python_program("web.py"), env={**os.environ, "PORT": str(ports["web"])})
    mcp = subprocess.Popen([str(EVERYTHING), "streamableHttp"], env={**os.environ, "PORT": str(ports["mcp"])}, **quiet)
    try:
        wait_for("the servers outside the mesh", lambda: all(map(listens, ports.values())))
        yield ports
    finally:
        for process in (web, mcp):
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory, outside: dict[str, int]) -> Iterator[RealMesh]:
    """A mesh of every kind of service, up for the whole run.

    everything (two instances, with secrets) and clock are stdio servers, remote
    is an MCP server elsewhere, web a plain HTTP service that calls everything and
    base, elsewhere a plain HTTP service that runs already, base a TCP service.
    """
    folder = tmp_path_factory.mktemp("mesh")
    (folder / "token").write_text(FILED_SECRET + "\n")
    environment = {"WORD": "${SECRET_WORD}", "TOKEN": "file:./token", "KEPT": "open"}
    catalog = {
        "services": {
            "everything": everything(
                instances=2, env=environment, allow=["web"], timeouts={"drain": f"{DRAIN_SECONDS}s"}
            ),
            "clock": the_time(),
            "remote": {"url": f"http://127.0.0.1:{outside['mcp']}/mcp"},
            "web": {
                "http": {"command": python_program("web.py")},
                "upstreams": ["everything", "base"],
                "route": "/web",
                "health": {"path": "/"},
            },
            "elsewhere": {"http": f"127.0.0.1:{outside['web']}", "route": "/elsewhere"},
            "base": {"tcp": {"command": python_program("base.py")}},
        }
    }
    settings = {"MCPMESH_ENVOY__DRAIN_SECONDS": str(DRAIN_SECONDS)}
    with real_mesh(folder, catalog, environment={"SECRET_WORD": SECRET, **settings}) as running:
        running.up()
        yield running
