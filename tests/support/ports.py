"""The ports for what tests start: a window of ports for each process that runs tests.

Several may do so side by side (`make test` starts more than one), beside a mesh
that a person runs. A window is held by a lock until its process has ended.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from itertools import cycle
from pathlib import Path
from typing import Final

from mcpmesh.kit.ports import PortAllocator

_BASE, _EACH, _WINDOWS = 20000, 1000, 12


def _claim() -> int:
    """The first port of a window that no other process of this user uses."""
    folder = Path(tempfile.gettempdir(), f"mcpmesh-test-ports-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in range(_WINDOWS):
        # Never closed: the kernel closes it with the process, and children do not inherit it.
        lock = os.open(folder / str(number), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        return _BASE + number * _EACH
    raise RuntimeError(f"{_WINDOWS} processes run tests already")


_WINDOW: Final = _claim()

MESH_INFRASTRUCTURE: Final = _WINDOW
MESH_SERVICES: Final = _WINDOW + 20
CONSUL_PORTS: Final = PortAllocator(_WINDOW + 300)
KONG_PORTS: Final = PortAllocator(_WINDOW + 800)
# For a listener of a test's own whose port has to be known before, and where nobody is to listen: what the kernel gives
# to who asks for any port is somebody else's the moment it is closed.
OWN_PORTS: Final = PortAllocator(_WINDOW + 900)
# What a mesh is given to remember of its ingress; not set aside, since its agent does that.
INGRESS_PORTS: Final = cycle(range(_WINDOW + 950, _WINDOW + _EACH))
