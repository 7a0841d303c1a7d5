"""The log files of a mesh: read, followed, and kept small."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

_MOST_BYTES = 16 * 1024 * 1024
_KEEP_SECONDS = 7 * 86_400
_LOOK_SECONDS = 0.3


def files_of(folder: Path, mesh: str, service: str) -> list[Path]:
    """The output of a service's instances (not of their Envoys), the latest written last."""
    prefix = f"{mesh}-{service}-"
    # What follows the prefix is "<ordinal>-<digest>": no other service's name can look like that.
    found = [
        path
        for path in folder.glob(f"{prefix}*.log")
        if len(rest := path.name.removeprefix(prefix).removesuffix(".log").split("-")) == 2
        and rest[0].isdigit()
        and "." not in rest[1]
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime)


async def read(folder: Path, mesh: str, service: str, lines: int, follow: bool) -> AsyncIterator[str]:
    """The last `lines` lines, oldest first; then, with `follow`, new ones, also of new instances."""
    places: dict[Path, int] = {}
    kept: list[str] = []
    for path in files_of(folder, mesh, service):
        text, places[path] = _from(path, max(0, path.stat().st_size - 1024 * 1024))
        kept += text.splitlines()
    for line in kept[-lines:] if lines else []:
        yield line
    rests: dict[Path, str] = {}
    while follow:
        await asyncio.sleep(_LOOK_SECONDS)
        for path in files_of(folder, mesh, service):
            start = places.get(path, 0)
            if path.stat().st_size < start:  # it was made small again
                start = 0
            text, places[path] = _from(path, start)
            *whole, rests[path] = (rests.get(path, "") + text).split("\n")
            for line in whole:
                yield line


def _from(path: Path, start: int) -> tuple[str, int]:
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    return data.decode(errors="replace"), start + len(data)


def tidy(folder: Path, writing: Collection[str]) -> None:
    """Copies what grew too large aside (one generation) and removes what nobody wrote for a week.

    Their writers append, so an emptied file is simply written on. Files that begin with a name of `writing` are open
    somewhere, however long nothing was said.
    """
    for path in folder.glob("*.log*"):
        stat = path.stat()
        if time.time() - stat.st_mtime > _KEEP_SECONDS:
            if path.name.partition(".")[0] not in writing:
                path.unlink(missing_ok=True)
        elif path.suffix == ".log" and stat.st_size > _MOST_BYTES:
            old = path.with_suffix(".log.1")
            shutil.copyfile(path, old)
            old.chmod(0o600)
            with path.open("r+b") as file:
                file.truncate(0)
