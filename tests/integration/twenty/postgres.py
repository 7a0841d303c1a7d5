"""A PostgreSQL of our own, on loopback and in a temporary folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """The folder of its programs: Debian keeps them off PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return places[-1].parent if places else None


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """Its URL; it is gone with the block. It refuses to run as root, so root starts it as `postgres`."""
    binaries = programs()
    assert binaries is not None, "no PostgreSQL is installed; on Debian and Ubuntu: apt install postgresql"
    whose = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    data = folder / "data"
    data.mkdir()
    if whose:
        shutil.chown(data, "postgres", "postgres")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    create = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
    subprocess.run(create, check=True, **whose, **quiet)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = ["-p", str(port), "-h", "127.0.0.1", "-k", "", "-F"]
    server = subprocess.Popen([str(binaries / "postgres"), "-D", str(data), *settings], **whose, **quiet)
    try:
        _wait(port, server)
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(30)


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, "PostgreSQL ended at its start"
        assert time.monotonic() < deadline, "PostgreSQL did not listen within 30 s"
        time.sleep(0.05)
