"""Files read whole, within a bound, without ever waiting."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_regular(path: Path, limit: int) -> tuple[bytes, os.stat_result]:
    """At most `limit` bytes of a regular file, and its status.

    OSError, with a `strerror` fit for a message, for everything else: devices
    and named pipes, which could keep the reader waiting, files beyond the
    limit, and names that can't be any file's.
    """
    if "\0" in str(path):
        raise OSError(None, "not a file name")
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(None, "not a regular file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(None, f"more than {limit >> 10} KiB")
    return content, status


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC)
