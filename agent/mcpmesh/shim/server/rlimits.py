"""How many files the shim may have open: as many as the system lets it; its servers keep the limit that it was given.

A server that looks at its descriptors with select() can't use numbers above 1023, so a higher limit is not for all.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

# All connections and processes of a shim at their bounds need less than a tenth of it.
MOST: Final = 65536

_given = resource.getrlimit(resource.RLIMIT_NOFILE)


def raise_limit() -> None:
    """Raise the soft limit to the hard one, within a bound."""
    soft, hard = _given
    most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def give_back(pid: int) -> None:
    """Let a process, and all that it starts from now on, have the limit that was given to the shim."""
    with contextlib.suppress(OSError):  # it has ended already, or may not be touched
        resource.prlimit(pid, resource.RLIMIT_NOFILE, _given)
