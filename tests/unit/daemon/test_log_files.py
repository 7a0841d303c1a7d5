"""Log files: reading, following, and keeping them small."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from mcpmesh.daemon import log_files


async def read(folder: Path, service: str, lines: int = 100) -> list[str]:
    return [line async for line in log_files.read(folder, "m", service, lines, follow=False)]


async def test_only_the_output_of_that_service_is_read_with_its_latest_lines_last(tmp_path: Path) -> None:
    (tmp_path / "m-files-1-ab.log").write_text("one\ntwo\nthree\n")
    (tmp_path / "m-files-1-ab.sidecar.log").write_text("envoy\n")
    (tmp_path / "m-files-more-1-ab.log").write_text("another service\n")
    (tmp_path / "other-files-1-ab.log").write_text("another mesh\n")
    assert await read(tmp_path, "files") == ["one", "two", "three"]
    assert await read(tmp_path, "files", 2) == ["two", "three"]


async def test_new_lines_are_yielded_once_complete_also_those_of_a_new_instance(tmp_path: Path) -> None:
    first = tmp_path / "m-files-1-ab.log"
    first.write_text("old\n")
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def follow() -> None:
        async for line in log_files.read(tmp_path, "m", "files", 10, follow=True, poll_seconds=0.001):
            seen.put_nowait(line)

    task = asyncio.create_task(follow())
    assert await asyncio.wait_for(seen.get(), 90) == "old"
    with first.open("a") as file:
        file.write("half")
        file.flush()
        (tmp_path / "m-files-1-cd.log").write_text("new instance\n")
        assert await asyncio.wait_for(seen.get(), 90) == "new instance"
        file.write(" and half\n")
    assert await asyncio.wait_for(seen.get(), 90) == "half and half"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_large_log_is_moved_to_a_second_file_and_an_old_one_removed(tmp_path: Path) -> None:
    large, old = tmp_path / "m-files-1-ab.log", tmp_path / "m-files-1-cd.log"
    in_use = [tmp_path / "m-files-2-ab.log", tmp_path / "m-files-2-ab.sidecar.log", tmp_path / "consul.log"]
    with large.open("ab") as writer:
        writer.truncate(17 * 1024 * 1024)
        week = time.time() - 8 * 86_400
        for path in (old, *in_use):
            path.write_text("old")
            os.utime(path, (week, week))
        log_files.tidy(tmp_path, {"m-files-1-ab", "m-files-2-ab", "consul"})
        writer.write(b"goes on\n")
    assert large.read_text() == "goes on\n" and not old.exists()
    assert [path.read_text() for path in in_use] == ["old"] * 3
    assert (tmp_path / "m-files-1-ab.log.1").stat().st_size == 17 * 1024 * 1024
