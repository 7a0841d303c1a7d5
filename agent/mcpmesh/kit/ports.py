"""Ports: those on loopback that nobody holds, and whether somebody answers at one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection

from mcpmesh.errors import MeshError

# The kernel gives outgoing connections ports from 32768 on; ours stay below.
_CEILING = 32767


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a listener could be opened at `host`:`port` now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


async def connects(host: str, port: int, timeout: float = 2.0) -> bool:
    """Whether somebody accepts connections there within `timeout` seconds."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


class Ports:
    """Hands out free ports upwards from `base`; one that was given is not given again soon."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._next = base

    def take(self, taken: Collection[int] = ()) -> int:
        """A port that is free and not in `taken` (set aside by others, perhaps not listening yet)."""
        span = _CEILING - self._base
        for step in range(span):
            port = self._base + (self._next - self._base + step) % span
            if port not in taken and is_free(port):
                self._next = port + 1
                return port
        raise MeshError(f"cannot find a free port from {self._base} to {_CEILING}; end what holds them")
