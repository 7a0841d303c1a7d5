"""Marked processes: start, find and stop; other processes are not touched."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mcpmesh.errors import WorkloadError
from mcpmesh.kit.marked_process import Mark, Process, find_marked, is_alive, spawn, stop, wait_for_any_end

FOR_EVER = "import time\nwhile True: time.sleep(60)"
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\n" + FOR_EVER


def start(home: Path, program: str, **more: object) -> Process:
    mark = Mark("test", str(home), "shim", "test-x-1-0", "x", ports={"http": 1})
    pid = spawn(mark, [sys.executable, "-c", program], env={}, log=home / "x.log", **more)  # type: ignore[arg-type]
    return Process(pid, mark)


async def logged(home: Path, text: str) -> None:
    async with asyncio.timeout(60):
        while text not in (home / "x.log").read_text():
            await asyncio.sleep(0.02)


async def test_a_started_process_is_found_by_its_mark_and_gone_when_stopped(tmp_path: Path) -> None:
    process = start(tmp_path, FOR_EVER)
    assert find_marked(tmp_path) == [process]
    assert await stop(process, 60)
    assert find_marked(tmp_path) == []


async def test_children_inherit_the_mark(tmp_path: Path) -> None:
    code = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {FOR_EVER!r}])\nprint('up', flush=True)\n"
    process = start(tmp_path, code + FOR_EVER)
    await logged(tmp_path, "up")
    found = find_marked(tmp_path)
    assert len(found) == 2 and {p.mark for p in map(_hashable, found)} == {_hashable(process).mark}
    for one in found:
        await stop(one, 60)
    assert find_marked(tmp_path) == []


def _hashable(process: Process) -> Process:
    return replace(process, mark=replace(process.mark, ports=()))  # type: ignore[arg-type]


async def test_a_program_that_ignores_term_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path, STUBBORN)
    await logged(tmp_path, "up")
    assert not await stop(process, 0.2)
    assert not is_alive(process)


async def test_a_reused_pid_is_not_signalled(tmp_path: Path) -> None:
    process = start(tmp_path, FOR_EVER)
    other = Process(process.pid, replace(process.mark, instance="another"))
    assert await stop(other, 0.2)
    assert is_alive(process)
    await stop(process, 60)


async def test_waiting_returns_at_the_first_end(tmp_path: Path) -> None:
    first, second = start(tmp_path, FOR_EVER), start(tmp_path, FOR_EVER)
    waiting = asyncio.create_task(wait_for_any_end([first.pid, second.pid]))
    await asyncio.sleep(0)
    assert not waiting.done()
    os.kill(second.pid, signal.SIGKILL)
    await asyncio.wait_for(waiting, 60)
    await stop(first, 60)


async def test_standard_input_is_passed_without_a_file(tmp_path: Path) -> None:
    code = "import os, sys\nprint(len(sys.stdin.read()), os.readlink('/proc/self/fd/0'), flush=True)"
    secret = b"s" * 200_000  # more than a pipe holds
    start(tmp_path, code, stdin=secret)
    await logged(tmp_path, "200000 /memfd:")


async def test_a_child_inherits_none_of_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCPMESH_CONSUL__TOKEN", "secret")
    monkeypatch.setenv("MY_API_KEY", "secret")
    start(tmp_path, "import os\nprint(sorted(os.environ), flush=True)\nprint('done', flush=True)")
    await logged(tmp_path, "done")
    assert "MY_API_KEY" not in (tmp_path / "x.log").read_text()
    assert "TOKEN" not in (tmp_path / "x.log").read_text()


async def test_a_missing_program_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"cannot start '/no/such/program': No such file"):
        spawn(Mark("m", str(tmp_path), "shim"), ["/no/such/program"], env={}, log=tmp_path / "log")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"mesh": 1', '{"other": "x"}'])
def test_other_text_in_the_variable_is_no_mark(text: str) -> None:
    assert Mark.parse(text) is None


def test_a_mark_of_a_later_version_is_still_read() -> None:
    mark = Mark("m", "/h", "shim", ports={"http": 1})
    assert Mark.parse(mark.dump()[:-1] + ',"news":1}') == mark


async def test_logs_are_private(tmp_path: Path) -> None:
    await stop(start(tmp_path, FOR_EVER), 60)
    assert (tmp_path / "x.log").stat().st_mode & 0o777 == 0o600
