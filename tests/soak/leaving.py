"""How a connection is left by whoever says goodbye to nobody."""

from __future__ import annotations

import asyncio
import socket
import struct

from tests.soak.wire import Connection, Dropped, Message, Reply

# From linux/tcp.h: a socket in repair mode is closed without telling its peer.
TCP_REPAIR = 19


async def begun(connection: Connection, request: bytes) -> asyncio.Future[Reply]:
    """Send a request; returns when its first message is here, or its answer."""
    first = asyncio.Event()
    connection.on_message = lambda _: first.set()
    answer = connection.begin(request)
    answer.add_done_callback(lambda _: first.set())
    async with asyncio.timeout(60):
        await first.wait()
    return answer


async def first_message(connection: Connection, request: bytes) -> Message:
    """Send a request whose answer nobody will look at, and wait for the first message on its stream."""
    came: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def ended(answer: asyncio.Future[Reply]) -> None:
        if not answer.cancelled() and not came.done():
            came.set_exception(answer.exception() or Dropped("no message came"))

    connection.on_message = lambda message: None if came.done() else came.set_result(message)
    answer = connection.begin(request)
    abandon(answer)
    answer.add_done_callback(ended)
    async with asyncio.timeout(60):
        return await came


def abandon(answer: asyncio.Future[Reply]) -> None:
    """Nobody will look at it."""
    answer.add_done_callback(lambda future: future.cancelled() or future.exception())


def reset(connection: Connection) -> None:
    """RST instead of FIN, as from a process that was killed with data unread."""
    if connection.transport is not None:
        sock = connection.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.transport.abort()


def vanish(connection: Connection) -> None:
    """Gone without a FIN, as when a machine loses its power. Needs CAP_NET_ADMIN; see `namespace`."""
    assert connection.transport is not None
    sock = connection.transport.get_extra_info("socket")
    # All is acknowledged, so that the shim has no reason to send anything again.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    connection.transport.abort()
