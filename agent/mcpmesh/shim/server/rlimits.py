"""The limit of open files: the shim raises its own to what the system allows, servers keep the original one.

A server that passes descriptors to select() can't use numbers above 1023, so servers don't get the raised limit.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

# All connections and processes of a shim at their bounds need less than a tenth of it.
MAX_OPEN_FILES: Final = 65536

_original = resource.getrlimit(resource.RLIMIT_NOFILE)


def raise_open_files_limit() -> None:
    """Raise the soft limit to the hard one, up to MAX_OPEN_FILES."""
    soft, hard = _original
    target = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))


def restore_for(pid: int) -> None:
    """Give a process, and all that it starts from now on, the limit that the shim was started with."""
    with contextlib.suppress(OSError):  # it has ended already, or may not be touched
        resource.prlimit(pid, resource.RLIMIT_NOFILE, _original)
