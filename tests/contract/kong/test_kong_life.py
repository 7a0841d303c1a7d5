"""The process of our own Kong: found by its mark, drained, ended completely; the real one or the stand-in."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from tests.support.kong.running import kong_program
from tests.support.ports import KONG_PORTS

from mcpmesh.ingress.kong.kong_process import (
    ROLE,
    KongListeners,
    drain,
    end,
    end_leftover,
    remove_working_folder,
    start,
)
from mcpmesh.kit.marked_process import Mark, Process, find_marked
from mcpmesh.settings import KongSettings


def wait_for(look: Callable[[], bool]) -> None:
    end_of_it = time.monotonic() + 90
    while not look():
        assert time.monotonic() < end_of_it
        time.sleep(0.02)


def answers(process: Process) -> bool:
    url = f"http://127.0.0.1:{process.mark.ports['admin']}/status"
    try:
        return httpx.get(url, trust_env=False, timeout=60).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A mesh's folder, in which nothing runs any more after the test."""
    yield tmp_path
    for pid in working_in(tmp_path / "kong"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def working_in(prefix: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if entry.joinpath("cwd").readlink() == prefix:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def started(home: Path) -> Process:
    programs = home / "programs"
    programs.mkdir()
    listens = KongListeners("127.0.0.1", KONG_PORTS.take(), KONG_PORTS.take())
    ports = {"public": listens.port, "admin": listens.admin_port}
    mark = Mark("m", str(home), ROLE, "m-ingress", "ingress", ports=ports)
    process = Process(start(kong_program(programs), mark, listens, KongSettings()), mark)
    wait_for(lambda: answers(process))
    return process


def master_of(home: Path) -> int:
    return int((home / "kong" / "pids" / "nginx.pid").read_text())


async def test_kong_is_found_by_its_mark_and_ended_with_everything_that_it_started(home: Path) -> None:
    process = started(home)
    assert process in find_marked(home)
    assert len(working_in(home / "kong")) > 1
    await end(process)
    assert working_in(home / "kong") == [] and find_marked(home) == []
    remove_working_folder(home)
    assert not (home / "kong").exists()


async def test_workers_that_outlive_their_master_end_with_the_rest(home: Path) -> None:
    process = started(home)
    os.kill(master_of(home), signal.SIGKILL)
    wait_for(lambda: working_in(home / "kong") == [])
    assert process not in find_marked(home)


async def test_processes_that_outlive_the_shell_are_found_and_ended(home: Path) -> None:
    process = started(home)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{process.pid}/cwd").exists() or process.pid not in working_in(home / "kong"))
    assert answers(process)
    await end_leftover(home)
    assert working_in(home / "kong") == []


async def test_a_persons_shell_in_the_folder_is_left_alone(home: Path) -> None:
    (home / "kong").mkdir()
    reader, terminal = os.openpty()
    # A shell in a terminal of its own.
    look = "import os, fcntl, termios, time; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); time.sleep(600)"
    person = subprocess.Popen([sys.executable, "-c", look], stdin=terminal, cwd=home / "kong")
    try:
        wait_for(lambda: Path(f"/proc/{person.pid}/stat").read_text().rpartition(")")[2].split()[4] != "0")
        await asyncio.wait_for(end_leftover(home), 90)
        assert person.poll() is None
    finally:
        person.kill()
        person.wait()
        os.close(reader)
        os.close(terminal)


async def test_a_drained_kong_accepts_no_connection_and_ends_by_itself(home: Path) -> None:
    process = started(home)
    drain(process)
    wait_for(lambda: working_in(home / "kong") == [])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", process.mark.ports["public"])) != 0


async def test_kong_health_tells_whether_it_runs(home: Path) -> None:
    process = started(home)
    argv = [kong_program(home / "programs"), "health", "--prefix", home / "kong"]
    assert subprocess.run(argv, capture_output=True).returncode == 0
    await end(process)
    # A pid stays in use until the new parent of the ended process has reaped it.
    wait_for(lambda: subprocess.run(argv, capture_output=True).returncode != 0)
