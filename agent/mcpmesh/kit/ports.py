"""Free ports, reserved from their choice until a program listens there.

Between the choice of a port and its listener there is time, and several Envoys
of one user may listen at the same port without an error. So a chosen port is
reserved by a name in the abstract namespace of unix sockets (unix(7)). Like
the port, the name exists once per network namespace, belongs to one process
and ends with it.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import socket
import time
from collections.abc import Collection

from mcpmesh.errors import MeshError

# The kernel gives outgoing connections ports from 32768 on; ours stay below.
_CEILING = 32767

# How long a program has to open a port that it was given.
OPENED_WITHIN_SECONDS = 60.0

# The ports that this process has reserved: the descriptor of each name, and until when (monotonic).
_reserved: dict[int, tuple[int, float]] = {}


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a listener could be opened at `host`:`port` now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def reserve_free(port: int, seconds: float = math.inf) -> bool:
    """Reserves `port` if it is free; False where a program listens there or another agent has reserved it."""
    return is_free(port) and reserve(port, seconds)


def reserve(port: int, seconds: float = math.inf) -> bool:
    """Keeps `port` from all other agents of this machine; False where another one has reserved it.

    It stays reserved for `seconds` at least, and no longer than this process runs. Whether a program listens there is
    not looked at. Raises MeshError where the system gives no name.
    """
    release_expired()
    now = time.monotonic()
    name, until = _reserved.get(port, (None, now))
    if name is None:
        name = _name(port)
    if name is not None:
        _reserved[port] = name, max(until, now + seconds)
    return name is not None


def release_expired() -> None:
    """Gives up the reservations whose time is over."""
    now = time.monotonic()
    for port in [port for port, (_, until) in _reserved.items() if until < now]:
        os.close(_reserved.pop(port)[0])


def _name(port: int) -> int | None:
    """A descriptor that holds the name of that port; None where another process holds it."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as named:
            named.bind(f"\0mcpmesh-port-{port}")
            return named.detach()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        raise MeshError(f"cannot reserve port {port}: {error.strerror}") from error


async def accepts_connections(host: str, port: int, timeout: float = 2.0) -> bool:
    """Whether a program accepts a connection there within `timeout` seconds."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


class PortAllocator:
    """Hands out free ports upwards from `base`; one that was handed out is not handed out again soon."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._next = base

    def take(self, taken: Collection[int] = ()) -> int:
        """A port that is free, reserved by no agent and not in `taken`; it is then reserved for a minute."""
        span = _CEILING - self._base
        for step in range(span):
            port = self._base + (self._next - self._base + step) % span
            if port in taken or port in _reserved:
                continue
            if reserve_free(port, OPENED_WITHIN_SECONDS):
                self._next = port + 1
                return port
        raise MeshError(f"cannot find a free port from {self._base} to {_CEILING}; end what holds them")
