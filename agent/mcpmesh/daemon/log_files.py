"""The log files of a mesh: reading, following, and keeping them small."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

_MAX_BYTES = 16 * 1024 * 1024
_KEEP_SECONDS = 7 * 86_400
_POLL_SECONDS = 0.3


def files_of(folder: Path, mesh: str, service: str) -> list[Path]:
    """The output of a service's instances (not of their Envoys), the latest written last."""
    prefix = f"{mesh}-{service}-"
    # The prefix is followed by "<ordinal>-<digest>"; no other service's name can end like that.
    found = [
        path
        for path in folder.glob(f"{prefix}*.log")
        if len(rest := path.name.removeprefix(prefix).removesuffix(".log").split("-")) == 2
        and rest[0].isdigit()
        and "." not in rest[1]
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime)


async def read(
    folder: Path, mesh: str, service: str, lines: int, follow: bool, poll_seconds: float = _POLL_SECONDS
) -> AsyncIterator[str]:
    """The last `lines` lines, oldest first; with `follow` then the new ones, also of new instances."""
    offsets: dict[Path, int] = {}
    latest: list[str] = []
    for path in files_of(folder, mesh, service):
        text, offsets[path] = _read_from(path, max(0, path.stat().st_size - 1024 * 1024))
        latest += text.splitlines()
    for line in latest[-lines:] if lines else []:
        yield line
    partial_lines: dict[Path, str] = {}
    while follow:
        await asyncio.sleep(poll_seconds)
        for path in files_of(folder, mesh, service):
            start = offsets.get(path, 0)
            if path.stat().st_size < start:  # `tidy` has emptied it
                start = 0
            text, offsets[path] = _read_from(path, start)
            *whole, partial_lines[path] = (partial_lines.get(path, "") + text).split("\n")
            for line in whole:
                yield line


def _read_from(path: Path, start: int) -> tuple[str, int]:
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    return data.decode(errors="replace"), start + len(data)


def tidy(folder: Path, writing: Collection[str]) -> None:
    """Moves the content of files that are too large to NAME.log.1, and removes files not written to for a week.

    Writers append, so an emptied file can still be written to. Files whose names begin with one of `writing` are open
    in a process and are never removed.
    """
    for path in folder.glob("*.log*"):
        stat = path.stat()
        if time.time() - stat.st_mtime > _KEEP_SECONDS:
            if path.name.partition(".")[0] not in writing:
                path.unlink(missing_ok=True)
        elif path.suffix == ".log" and stat.st_size > _MAX_BYTES:
            old = path.with_suffix(".log.1")
            shutil.copyfile(path, old)
            old.chmod(0o600)
            with path.open("r+b") as file:
                file.truncate(0)
