"""Changes of a catalog's files, and of the secret files that it names.

Only the content counts: a file with a new time and the old content is no change. An editor may replace a file, a
symbolic link may point elsewhere (as Kubernetes does with mounted files), and a folder may be removed and made again:
each of these is noticed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

from watchfiles import awatch

from mcpmesh.catalog.loader import secret_files
from mcpmesh.catalog.parse import MAX_BYTES
from mcpmesh.kit.regular_files import read_regular_file

# The files are read this often even without an event of the kernel. Network file systems send none, and neither does
# a folder that is made again.
_POLL_SECONDS = 1.0
# A save is several writes. It is complete when the content stays the same for this long.
_SETTLE_SECONDS = 0.1
# After this many readings a save counts as complete in any case.
SETTLE_READINGS = 8

# The digest of each file's content; None for a file that cannot be read.
Digests = Mapping[Path, bytes | None]


def changes(paths: Sequence[Path], environ: Mapping[str, str] | None = None) -> AsyncIterator[None]:
    """Yields once for each change of the files `paths`, within about a second. Changes close together count as one.

    The files are compared with their content at the time of the call. Call it before the catalog is loaded, so that no
    change is missed. `environ` has the variables in the names of secret files.
    """
    reader = _DigestReader(tuple(paths), environ or {})
    return _changes(reader, reader.read({}))


async def _changes(reader: _DigestReader, known: Digests) -> AsyncGenerator[None, None]:
    while True:
        async with aclosing(_ticks(known)) as ticks:
            async for _ in ticks:
                if await asyncio.to_thread(reader.read, known) != known:
                    break
        known = await read_until_settled(reader.read, known)
        yield


async def read_until_settled(
    read: Callable[[Digests], Digests], known: Digests, pause_seconds: float = _SETTLE_SECONDS
) -> Digests:
    """The digests after the end of a save: those of the first two readings in a row that agree."""
    for _ in range(SETTLE_READINGS):
        before = known
        known = await asyncio.to_thread(read, before)
        if known == before:
            break
        await asyncio.sleep(pause_seconds)
    return known


async def _ticks(watched: Digests) -> AsyncGenerator[None, None]:
    """Yields at once, then at each event in the folders of `watched`, and every second without one."""
    yield
    try:
        events = awatch(
            *_folders(watched),
            watch_filter=None,
            debounce=200,
            rust_timeout=int(_POLL_SECONDS * 1000),
            yield_on_timeout=True,
            recursive=False,
        )
        async with aclosing(events):
            async for _ in events:
                yield
    except (OSError, RuntimeError, ValueError):
        # The kernel has no inotify watches left, or a folder was removed at this moment. Polling remains.
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            yield


def _folders(paths: Iterable[Path]) -> set[Path]:
    """The folders of `paths`, and of the files that symbolic links among them lead to. A change of `paths` is an event
    there."""
    found = {folder for path in paths for folder in (path.absolute().parent, Path(os.path.realpath(path)).parent)}
    return {folder for folder in found if folder.is_dir()}


class _DigestReader:
    """Reads the catalog's files and the secret files that it names."""

    def __init__(self, paths: tuple[Path, ...], environ: Mapping[str, str]) -> None:
        self._paths = paths
        self._environ = environ

    def read(self, known: Digests) -> Digests:
        """The digests of all files. The catalog is parsed only if it differs from `known`, the digests read before."""
        catalog = {path: _digest(path) for path in self._paths}
        if all(known.get(path, b"") == digest for path, digest in catalog.items()):
            secrets = frozenset(known.keys() - catalog.keys())
        else:
            secrets = secret_files(self._paths, self._environ)
        return {**catalog, **{path: _digest(path) for path in secrets}}


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(read_regular_file(path, MAX_BYTES)[0]).digest()
    except (OSError, ValueError):
        return None
