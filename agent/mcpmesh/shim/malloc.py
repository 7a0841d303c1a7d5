"""What glibc does with freed memory: some is kept for the next answers, and given back once sessions are over.

Without glibc nothing happens.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
KEPT_BYTES: Final = 4 * 1024 * 1024


def keep_freed() -> None:
    """Let glibc keep a few freed mebibytes instead of giving back each long answer's and fetching it page by page.

    Saves a quarter of the CPU time of an answer of 1 MiB.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            mallopt(option, KEPT_BYTES)


def give_back() -> None:
    """Return all that is free to the system; takes about a millisecond."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
