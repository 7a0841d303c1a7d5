"""The twenty servers in one mesh, a page on loopback, and a database: `make test-twenty`."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.integration.twenty.postgres import database, programs
from tests.integration.twenty.servers import ROOT, TWENTY
from tests.support.mesh import NOT_READY, OK, RealMesh, real_mesh

sys.path.insert(0, str(ROOT / "tests/integration/shim"))

PAGE = b"<title>A page</title><p>Greetings from this machine.</p>"
INSTALLED = ("node_modules", ".venv", "bin", "claude-flow", "ruv-swarm", "ultimatecoder", "claude-task-runner")
UP_SECONDS = 240


class Page(BaseHTTPRequestHandler):
    """One page at every address."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        """Not into the tests' output."""


@pytest.fixture(scope="session")
def web() -> Iterator[str]:
    """The address of a page on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/twenty as it is installed, with data of its own."""
    folder = tmp_path_factory.mktemp("twenty")
    shutil.copy(TWENTY / "mesh.yaml", folder)
    shutil.copytree(TWENTY / "workspace", folder / "workspace")
    (folder / "data").mkdir()
    for name in INSTALLED:
        if (TWENTY / name).exists():
            (folder / name).symlink_to(TWENTY / name)
    return folder


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database, or where no PostgreSQL is installed an address at which there is none."""
    if programs() is None:
        yield "postgresql://postgres@127.0.0.1:1/none"
        return
    folder = tmp_path_factory.mktemp("postgres")
    for parent in (folder, *folder.parents):  # so that its own user gets there
        if parent.owner() == folder.owner() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    with database(folder) as url:
        yield url


@pytest.fixture(scope="session")
def up(home: Path, database_url: str) -> Iterator[tuple[RealMesh, float]]:
    """The mesh, and the seconds until all was ready or had failed."""
    with real_mesh(home, name="twenty", environment={"DATABASE_URL": database_url}) as mesh:
        words = ("up", "-f", str(mesh.catalog), "--detach", "--timeout", str(UP_SECONDS))
        began = time.monotonic()
        done = mesh.run(*words, code=None, seconds=UP_SECONDS + 60)
        seconds = time.monotonic() - began
        mesh.output = done.stdout + done.stderr
        assert done.returncode in (OK, NOT_READY), mesh.output
        yield mesh, seconds


@pytest.fixture(scope="session")
def twenty(up: tuple[RealMesh, float]) -> RealMesh:
    """The mesh, up: what is installed runs, what is not has failed."""
    return up[0]
