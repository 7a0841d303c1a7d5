"""How glibc treats freed memory: some is retained for the next answers, and trimmed once sessions have ended.

Without glibc these functions do nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
RETAINED_BYTES: Final = 4 * 1024 * 1024


def retain_freed_memory() -> None:
    """Let glibc keep a few freed mebibytes, instead of returning each long answer's and faulting it in page by page.

    Saves a quarter of the CPU time of an answer of 1 MiB.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            mallopt(option, RETAINED_BYTES)


def trim() -> None:
    """Return all free memory to the system; takes about a millisecond."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
