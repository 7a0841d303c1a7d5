"""The ways in which a legacy client drops an open session without ending it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from tests.soak.disconnects import abandon, begin_call, reset, vanish
from tests.soak.http_client import INITIALIZE, Connection, Dropped, legacy, rpc


class Client:
    """One session."""

    def __init__(self, port: int, session: str, connection: Connection) -> None:
        self.port = port
        self.session = session
        self.connection = connection

    @classmethod
    async def open(cls, port: int) -> Client:
        connection = await Connection.open(port)
        reply = await connection.ask(INITIALIZE)
        if reply.status != 200:
            raise AssertionError(f"no session: {reply.status} {reply.body!r}")
        client = cls(port, reply.session, connection)
        await connection.ask(legacy(client.session, rpc("notifications/initialized", id=None)))
        return client

    def call(self, tool: str, **arguments: int) -> bytes:
        given = {"who": self.session, "n": 1, **arguments}
        return legacy(
            self.session, rpc("tools/call", {"name": tool, "arguments": given, "_meta": {"progressToken": 1}})
        )

    async def another(self) -> Connection:
        return await Connection.open(self.port)


async def no_delete(client: Client) -> None:
    """Close the connection after a call."""
    await client.connection.ask(client.call("who"))
    client.connection.close()


async def reset_in_a_call(client: Client) -> None:
    """Reset the connection while the call runs."""
    abandon(client.connection.begin(client.call("never")))
    reset(client.connection)


async def stream_closed(client: Client) -> None:
    """Close an event stream in the middle, with a server request on it."""
    abandon(await begin_call(client.connection, client.call("ask")))
    client.connection.close()


async def listener_reset(client: Client) -> None:
    """Open a GET stream and make a call on another connection; reset both."""
    other = await client.another()
    abandon(client.connection.begin(legacy(client.session, b"", verb="GET")))
    await other.ask(client.call("log"))
    reset(client.connection)
    reset(other)


async def unread_answer(client: Client) -> None:
    """Request long answers and do not read them."""
    assert client.connection.transport is not None
    client.connection.transport.pause_reading()
    abandon(client.connection.begin(client.call("big", bytes=1 << 20)))
    await client_calls_seen(client)
    reset(client.connection)


async def client_calls_seen(client: Client) -> None:
    """Return when the shim has answered another call of this session; then it has the first one too."""
    other = await client.another()
    await other.ask(client.call("who"))
    other.close()


async def half_a_request(client: Client) -> None:
    """Send half of a call, and close."""
    whole = client.call("who")
    client.connection.write(whole[: len(whole) - 20])
    client.connection.close()


async def half_a_head(client: Client) -> None:
    """Send half of a head, and reset."""
    client.connection.write(client.call("who")[:60])
    reset(client.connection)


async def before_the_answer(client: Client) -> None:
    """Begin another session and leave before its answer."""
    other = await client.another()
    abandon(other.begin(INITIALIZE))
    reset(other)
    client.connection.close()


async def deleted_in_a_call(client: Client) -> None:
    """Send DELETE while a call runs, and reset the call's connection at the same time."""
    other = await client.another()
    abandon(client.connection.begin(client.call("never")))
    abandon(other.begin(legacy(client.session, b"", verb="DELETE")))
    reset(client.connection)
    other.close()


async def server_dies(client: Client) -> None:
    """Kill the server in a call; leave without ending the session."""
    await client.connection.ask(client.call("die"))
    client.connection.close()


async def half_open(client: Client) -> None:
    """Vanish: close the connection without a FIN, as when a machine loses its power."""
    vanish(client.connection)


async def half_open_listener(client: Client) -> None:
    """Vanish with a GET stream open."""
    abandon(client.connection.begin(legacy(client.session, b"", verb="GET")))
    await client_calls_seen(client)
    await half_open(client)


Way: TypeAlias = Callable[[Client], Awaitable[None]]

WAYS: list[Way] = [
    no_delete,
    reset_in_a_call,
    stream_closed,
    listener_reset,
    unread_answer,
    half_a_request,
    half_a_head,
    before_the_answer,
    deleted_in_a_call,
    half_open,
    half_open_listener,
]


async def drop(port: int, way: Way) -> None:
    """Open one session and drop it."""
    client = await Client.open(port)
    try:
        await way(client)
    except Dropped:
        client.connection.abort()
