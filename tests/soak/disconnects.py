"""How clients disconnect without ending their calls and sessions."""

from __future__ import annotations

import asyncio
import socket
import struct

from tests.soak.http_client import Connection, Dropped, Message, Reply

# From linux/tcp.h: a socket in repair mode is closed without telling its peer.
TCP_REPAIR = 19


async def begin_call(connection: Connection, request: bytes) -> asyncio.Future[Reply]:
    """Send a request; returns when its first message or its answer has arrived."""
    first = asyncio.Event()
    connection.on_message = lambda _: first.set()
    answer = connection.begin(request)
    answer.add_done_callback(lambda _: first.set())
    async with asyncio.timeout(60):
        await first.wait()
    return answer


async def first_message(connection: Connection, request: bytes) -> Message:
    """Send a request whose answer is ignored, and wait for the first message on its stream."""
    first: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def ended(answer: asyncio.Future[Reply]) -> None:
        if not answer.cancelled() and not first.done():
            first.set_exception(answer.exception() or Dropped("no message came"))

    connection.on_message = lambda message: None if first.done() else first.set_result(message)
    answer = connection.begin(request)
    abandon(answer)
    answer.add_done_callback(ended)
    async with asyncio.timeout(60):
        return await first


def abandon(answer: asyncio.Future[Reply]) -> None:
    """Ignore an answer."""
    answer.add_done_callback(lambda future: future.cancelled() or future.exception())


def reset(connection: Connection) -> None:
    """Close with RST instead of FIN, as the kernel does for a killed process with unread data."""
    if connection.transport is not None:
        sock = connection.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.transport.abort()


def vanish(connection: Connection) -> None:
    """Close without a FIN, as when a machine loses its power. Needs CAP_NET_ADMIN; see `namespace`."""
    assert connection.transport is not None
    sock = connection.transport.get_extra_info("socket")
    # Everything is acknowledged, so the shim has no reason to send anything again.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    connection.transport.abort()
