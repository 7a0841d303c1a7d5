"""The ways in which a modern client leaves: it drops calls, subscriptions and input requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeAlias

from tests.soak.disconnects import abandon, first_message, reset, vanish
from tests.soak.http_client import ASKABLE, Connection, Dropped, Message, listen, modern

_names = count(1)


def call(tool: str, capabilities: Message | None = None, **arguments: int) -> bytes:
    """A tool call of a new caller."""
    given = {"who": f"modern-{next(_names)}", "n": 1, **arguments}
    return modern("tools/call", {"name": tool, "arguments": given}, capabilities, progressToken=1)


async def calling(port: int) -> Connection:
    """A connection with a call that has begin_call at its server and is never answered."""
    connection = await Connection.open(port)
    message = await first_message(connection, call("hang"))
    assert message.get("method") == "notifications/progress", message
    return connection


async def listening(port: int) -> Connection:
    """A connection with a subscription that was acknowledged."""
    connection = await Connection.open(port)
    message = await first_message(connection, listen(f"soak://{next(_names)}"))
    assert message.get("method") == "notifications/subscriptions/acknowledged", message
    return connection


async def call_reset(port: int) -> None:
    """Reset the connection in a call."""
    reset(await calling(port))


async def call_closed(port: int) -> None:
    """Close the connection with a FIN."""
    (await calling(port)).close()


async def call_vanished(port: int) -> None:
    """Vanish in a call."""
    vanish(await calling(port))


async def listen_reset(port: int) -> None:
    """Reset the connection of a subscription."""
    reset(await listening(port))


async def listen_closed(port: int) -> None:
    """Close the connection with a FIN."""
    (await listening(port)).close()


async def listen_vanished(port: int) -> None:
    """Vanish with a subscription."""
    vanish(await listening(port))


async def input_never_retried(port: int) -> None:
    """Get input requests instead of a result, and do not retry."""
    assert await _asked(port) == "input_required"


async def input_refused_or_never_retried(port: int) -> None:
    """The same where the server request may be refused, since its caller is unclear."""
    assert await _asked(port) in ("input_required", "complete")


async def _asked(port: int) -> str:
    connection = await Connection.open(port)
    reply = await connection.ask(call("ask", ASKABLE))
    connection.close()
    result = reply.messages[-1].get("result", {})
    assert result.get("resultType") == "input_required" or "refused" in str(result), reply
    return str(result["resultType"])


async def unread_answer(port: int) -> None:
    """Request a long answer, do not read it, and reset."""
    connection, other = await Connection.open(port), await Connection.open(port)
    assert connection.transport is not None
    connection.transport.pause_reading()
    abandon(connection.begin(call("big", bytes=1 << 20)))
    await other.ask(call("who"))  # so the shim has the first one
    other.close()
    reset(connection)


async def half_a_call(port: int) -> None:
    """Send half of a call, and close."""
    connection = await Connection.open(port)
    connection.write(call("who")[:-20])
    connection.close()


Way: TypeAlias = Callable[[int], Awaitable[None]]

WAYS: list[Way] = [
    call_reset,
    call_closed,
    call_vanished,
    listen_reset,
    listen_closed,
    listen_vanished,
    unread_answer,
    half_a_call,
]


async def server_dies(port: int) -> None:
    """Kill the server in a call, and so in the calls of all callers that share it."""
    others = [await calling(port), await listening(port)]
    connection = await Connection.open(port)
    await connection.ask(call("die"))
    for each in (connection, *others):
        each.close()


async def drop(port: int, way: Way) -> None:
    """Run one client that leaves in this way."""
    try:
        await way(port)
    except Dropped as error:
        raise AssertionError(f"{way.__name__}: the shim closed the connection: {error}") from error
