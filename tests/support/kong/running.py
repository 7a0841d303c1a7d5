"""A Kong for tests: the real one where it is given, else the stand-in; both run as a program named `kong`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.support.ports import KONG_PORTS

# The path of a real kong program, or the Admin (and proxy) address of a running one.
BINARY = "MCPMESH_TEST_KONG_BIN"
ADMIN = "MCPMESH_TEST_KONG_ADMIN"
PROXY = "MCPMESH_TEST_KONG_PROXY"

PROGRAM = Path(__file__).resolve().with_name("program.py")
WAITING = Path(__file__).resolve().parents[3] / "kong" / "waiting.yml"

# A real Kong takes some seconds to start on a loaded machine.
_START_SECONDS = 120.0


@dataclass(frozen=True)
class RunningKong:
    """The addresses of a Kong."""

    admin: str
    proxy: str


def kong_program(folder: Path) -> Path:
    """The real program where it is given, else the stand-in, executable in `folder`."""
    if given := os.environ.get(BINARY):
        return Path(given)
    path = folder / "kong"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {PROGRAM} "$@"\n')
    path.chmod(0o755)
    return path


@contextmanager
def running_kong(folder: Path) -> Iterator[RunningKong]:
    """A Kong without a document; a running one where its address is given."""
    if admin := os.environ.get(ADMIN):
        yield RunningKong(admin, os.environ.get(PROXY, "http://127.0.0.1:8000"))
        return
    admin_port, proxy_port = KONG_PORTS.take(), KONG_PORTS.take()
    prefix = folder / "kong-prefix"
    environment = {
        "PATH": os.environ["PATH"],
        "KONG_DATABASE": "off",
        "KONG_NGINX_DAEMON": "off",
        "KONG_DECLARATIVE_CONFIG": str(WAITING),
        "KONG_PROXY_LISTEN": f"127.0.0.1:{proxy_port}",
        "KONG_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
        "KONG_ADMIN_GUI_LISTEN": "off",
        "KONG_STATUS_LISTEN": "off",
        "KONG_ANONYMOUS_REPORTS": "off",
        "KONG_NGINX_WORKER_PROCESSES": "1",
        **({"KONG_NGINX_USER": "root root"} if os.getuid() == 0 else {}),
    }
    log = folder / "kong.log"
    with log.open("wb") as sink:
        argv = [str(kong_program(folder)), "start", "--prefix", str(prefix)]
        process = subprocess.Popen(argv, env=environment, stdout=sink, stderr=sink, start_new_session=True)
    try:
        kong = RunningKong(f"http://127.0.0.1:{admin_port}", f"http://127.0.0.1:{proxy_port}")
        _wait_for(kong, process, log)
        yield kong
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(kong: RunningKong, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(f"{kong.admin}/status", trust_env=False, timeout=30).status_code == httpx.codes.OK:
                return
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"no Kong: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)
