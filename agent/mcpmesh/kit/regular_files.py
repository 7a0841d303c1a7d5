"""Files read whole, within a bound, without waiting."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_regular_file(path: Path, limit: int) -> tuple[bytes, os.stat_result]:
    """The content of a regular file of at most `limit` bytes, and its status.

    Raises OSError with a `strerror` fit for a message for everything else: devices and named pipes, which could keep
    the reader waiting, files beyond the limit, and texts that cannot be the name of a file.
    """
    if "\0" in str(path):
        raise OSError(None, "not a file name")
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(None, "not a regular file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(None, f"more than {limit >> 10} KiB")
    return content, status


def _open_without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC)
