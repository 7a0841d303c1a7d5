"""Tells when a catalog may read differently: its files, or the secret files they name.

What counts is content. Editors that replace a file, swapped symbolic links (as
Kubernetes mounts them), folders that go and come back are all seen; a file
that was only touched is no change.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

from watchfiles import awatch

from mcpmesh.catalog.loader import secret_files
from mcpmesh.catalog.parse import MAX_BYTES
from mcpmesh.kit.regular_files import read_regular_file

# Looked at this often even without an event: folders that come back, network file systems.
_LOOK_SECONDS = 1.0
# A save is several writes; it is over when nothing differs for this long, and taken as it is after so many tries.
_SETTLE_SECONDS = 0.1
_SETTLE_TRIES = 8

# The content of each file in few bytes, None where it can't be read.
Fingerprint = Mapping[Path, bytes | None]


def changes(paths: Sequence[Path], environ: Mapping[str, str] | None = None) -> AsyncIterator[None]:
    """Yields once for each change, within about a second; changes close together are one.

    Counts from the moment of the call: called before the catalog is loaded, it
    misses nothing. `environ` fills in the names of secret files.
    """
    look = _Look(tuple(paths), environ or {})
    return _changes(look, look({}))


async def _changes(look: _Look, known: Fingerprint) -> AsyncGenerator[None, None]:
    while True:
        async with aclosing(_ticks(known)) as ticks:
            async for _ in ticks:
                if await asyncio.to_thread(look, known) != known:
                    break
        known = await _settled(look, known)
        yield


async def _settled(look: _Look, known: Fingerprint) -> Fingerprint:
    for _ in range(_SETTLE_TRIES):
        before = known
        known = await asyncio.to_thread(look, before)
        if known == before:
            break
        await asyncio.sleep(_SETTLE_SECONDS)
    return known


async def _ticks(watched: Fingerprint) -> AsyncGenerator[None, None]:
    """Ticks at once, on events in the folders of `watched`, and every second without."""
    yield
    try:
        events = awatch(
            *_folders(watched),
            watch_filter=None,
            debounce=200,
            rust_timeout=int(_LOOK_SECONDS * 1000),
            yield_on_timeout=True,
            recursive=False,
        )
        async with aclosing(events):
            async for _ in events:
                yield
    except (OSError, RuntimeError, ValueError):
        # No inotify watches left, or a folder went while it was asked for: the regular look has to do.
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            yield


def _folders(paths: Iterable[Path]) -> set[Path]:
    """Where a change of `paths` is seen: their folders, and those of the files that links lead to."""
    found = {folder for path in paths for folder in (path.absolute().parent, Path(os.path.realpath(path)).parent)}
    return {folder for folder in found if folder.is_dir()}


class _Look:
    """Reads what there is to watch; called with what was read last, it parses the catalog only where that changed."""

    def __init__(self, paths: tuple[Path, ...], environ: Mapping[str, str]) -> None:
        self._paths = paths
        self._environ = environ

    def __call__(self, known: Fingerprint) -> Fingerprint:
        catalog = {path: _content(path) for path in self._paths}
        if all(known.get(path, b"") == content for path, content in catalog.items()):
            secrets = frozenset(known.keys() - catalog.keys())
        else:
            secrets = secret_files(self._paths, self._environ)
        return {**catalog, **{path: _content(path) for path in secrets}}


def _content(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(read_regular_file(path, MAX_BYTES)[0]).digest()
    except (OSError, ValueError):
        return None
