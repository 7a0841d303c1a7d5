"""Ports: those on loopback that nobody holds, and whether somebody answers at one.

Between the choice of a port and its listener there is time, and several Envoys
of one user may listen at one port without a word. So what is chosen is set
aside: a name in the abstract namespace of unix sockets (unix(7)) stands for
the port. Like the port it is one per network namespace, one process can have
it, and it is gone with that process.
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

# What a program that was given a port has to open it.
OPENED_WITHIN_SECONDS = 60.0

# The ports that this process has set aside: the descriptor of each name, and until when (monotonic).
_set_aside: dict[int, tuple[int, float]] = {}


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
    """Sets `port` aside where nobody listens there; False where somebody does, or another agent will."""
    return is_free(port) and reserve(port, seconds)


def reserve(port: int, seconds: float = math.inf) -> bool:
    """Keeps `port` from all other agents of this machine; False where another one has set it aside.

    It stays so for `seconds` at least, and no longer than this process. Whether somebody listens there is another
    question. Raises MeshError where the system gives no name.
    """
    release_expired()
    now = time.monotonic()
    name, until = _set_aside.get(port, (None, now))
    if name is None:
        name = _name(port)
    if name is not None:
        _set_aside[port] = name, max(until, now + seconds)
    return name is not None


def release_expired() -> None:
    """Gives up the names of ports whose time is over."""
    now = time.monotonic()
    for old in [old for old, (_, until) in _set_aside.items() if until < now]:
        os.close(_set_aside.pop(old)[0])


def _name(port: int) -> int | None:
    """A descriptor that has the name of that port; None where another process has it."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as named:
            named.bind(f"\0mcpmesh-port-{port}")
            return named.detach()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        raise MeshError(f"cannot set port {port} aside: {error.strerror}") from error


async def accepts_connections(host: str, port: int, timeout: float = 2.0) -> bool:
    """Whether somebody accepts connections there within `timeout` seconds."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


class PortAllocator:
    """Hands out free ports upwards from `base`; one that was given is not given again soon."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._next = base

    def take(self, taken: Collection[int] = ()) -> int:
        """A port that is free, set aside by no agent, and not in `taken`; the caller's for a minute to open it."""
        span = _CEILING - self._base
        for step in range(span):
            port = self._base + (self._next - self._base + step) % span
            if port in taken or port in _set_aside:
                continue
            if reserve_free(port, OPENED_WITHIN_SECONDS):
                self._next = port + 1
                return port
        raise MeshError(f"cannot find a free port from {self._base} to {_CEILING}; end what holds them")
