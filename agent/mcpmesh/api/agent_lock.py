"""The lock of a mesh's agent: at most one agent for each mesh, and proof that it runs.

The agent holds a lock on `agent.lock` in the mesh's home folder until its process ends. The kernel
releases it then, so neither a crash nor a reused process id can make a dead agent look alive.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcpmesh.errors import Refused
from mcpmesh.kit.private_files import private_folder

# Two bounds: an agent that is ending keeps the lock for a few moments, and so can a process that merely tests it with
# `is_held`, when a busy machine suspends that process at the wrong moment.
_ATTEMPTS_AGAINST_AN_AGENT = 10
_PAUSE_SECONDS = 0.05
_TIMEOUT_SECONDS = 30.0


@contextmanager
def hold(home: Path, pause_seconds: float = _PAUSE_SECONDS) -> Iterator[None]:
    """Makes this process the agent of the mesh at `home`; raises Refused while another process is."""
    private_folder(home)
    handle = os.open(home / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        attempts, end = 0, time.monotonic() + _TIMEOUT_SECONDS
        while not _try_lock(handle):
            attempts += is_held(home)
            if attempts >= _ATTEMPTS_AGAINST_AN_AGENT or time.monotonic() > end:
                raise Refused(
                    f'cannot start an agent for mesh "{home.name}": one runs already; see it with: mcpmesh status'
                )
            time.sleep(pause_seconds)
        yield
    finally:
        os.close(handle)


def is_held(home: Path) -> bool:
    """Whether an agent of the mesh at `home` runs, even one that does not answer."""
    try:
        handle = os.open(home / "agent.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
