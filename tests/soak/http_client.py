"""A lean HTTP client for MCP: one connection, one request at a time, messages as they come.

It is lean, so that a million calls don't take an hour; httptools parses, msgspec decodes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import msgspec

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
Message = dict[str, Any]

decode: Callable[[bytes], Message] = msgspec.json.Decoder().decode


class Dropped(Exception):
    """The connection ended before the answer was complete."""


@dataclass
class Reply:
    """A complete answer."""

    status: int = 0
    session: str = ""
    streamed: bool = False
    messages: list[Message] = field(default_factory=list)
    """The messages of a JSON body. Those of an event stream went to `on_message` already; the last one is here too."""
    body: bytes = b""


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.on_message: Callable[[Message], None] = lambda _: None
        self._parser: Any = None
        self._reply = Reply()
        self._done: asyncio.Future[Reply] | None = None
        self._parts: list[bytes] = []
        self._rest = b""

    @classmethod
    async def open(cls, port: int) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        _connected.add(self)
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        _connected.discard(self)
        if self._done is not None and not self._done.done():
            self._done.set_exception(Dropped(str(error or "closed")))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # httptools

    def on_message_begin(self) -> None:
        self._reply = Reply()
        self._parts = []
        self._rest = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"mcp-session-id":
                self._reply.session = value.decode()
            case b"content-type":
                self._reply.streamed = value.startswith(b"text/event-stream")

    def on_headers_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if not self._reply.streamed:
            self._parts.append(body)
            return
        *events, self._rest = (self._rest + body).split(b"\r\n\r\n")
        for event in events:
            for line in event.split(b"\r\n"):
                if line.startswith(b"data: "):
                    message = decode(line[6:])
                    self._reply.messages = [message]
                    self.on_message(message)

    def on_message_complete(self) -> None:
        reply = self._reply
        if not reply.streamed and self._parts:
            reply.body = b"".join(self._parts)
            reply.messages = [decode(reply.body)]
            self.on_message(reply.messages[0])
        if self._done is not None and not self._done.done():
            self._done.set_result(reply)

    # Requests

    def write(self, data: bytes) -> None:
        """Send bytes unchanged."""
        if self.transport is None:
            raise Dropped("closed")
        self.transport.write(data)

    def begin(self, request: bytes) -> asyncio.Future[Reply]:
        """Send a request; returns a future of its answer. Both may raise Dropped."""
        self._done = asyncio.get_running_loop().create_future()
        self.write(request)
        return self._done

    async def ask(self, request: bytes, seconds: float = 60.0) -> Reply:
        """Send a request and wait for its answer; raises Dropped or TimeoutError."""
        async with asyncio.timeout(seconds):
            return await self.begin(request)

    def close(self) -> None:
        """Close with a FIN."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once; unsent bytes are dropped."""
        if self.transport is not None:
            self.transport.abort()


_connected: set[Connection] = set()


async def disconnect() -> None:
    """Abort every open connection; returns when all are closed, which is needed before the loop is closed."""
    for connection in list(_connected):
        connection.abort()
    async with asyncio.timeout(60):
        while _connected:
            await asyncio.sleep(0.01)


def request(body: bytes, *lines: str, verb: str = "POST") -> bytes:
    """A request with these header lines."""
    head = "".join(f"{line}\r\n" for line in lines)
    return (
        f"{verb} /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{head}\r\n"
    ).encode() + body


def rpc(method: str | None, params: Any = None, id: Any = 1, **more: Any) -> bytes:
    """A JSON-RPC message: a notification if the id is None, a response if the method is None."""
    message: Message = {"jsonrpc": "2.0"}
    if id is not None:
        message["id"] = id
    if method is not None:
        message["method"] = method
    if params is not None:
        message["params"] = params
    return json.dumps(message | more, separators=(",", ":")).encode()


INITIALIZE = request(
    rpc(
        "initialize",
        {
            "protocolVersion": LEGACY,
            "capabilities": {"sampling": {}},
            "clientInfo": {"name": "soak", "version": "1"},
        },
    )
)


def legacy(session: str, body: bytes, verb: str = "POST") -> bytes:
    """A request of a legacy session."""
    return request(body, f"Mcp-Session-Id: {session}", f"MCP-Protocol-Version: {LEGACY}", verb=verb)


ASKABLE: Message = {"sampling": {}}


def modern(method: str, params: Message, capabilities: Message | None = None, **meta: Any) -> bytes:
    """A modern request, always with the same id; its client has no capabilities unless they are given."""
    envelope = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": capabilities or {},
        **meta,
    }
    lines = [f"MCP-Protocol-Version: {MODERN}", f"Mcp-Method: {method}"]
    if method == "tools/call":
        lines.append(f"Mcp-Name: {params['name']}")
    return request(rpc(method, {**params, "_meta": envelope}), *lines)


def listen(*uris: str) -> bytes:
    """A modern subscription to changes of these resources."""
    return modern("subscriptions/listen", {"notifications": {"resourceSubscriptions": list(uris)}})


def subscription_of(message: Message) -> Any:
    """The id of the subscription that a message names."""
    return message["params"].get("_meta", {}).get("io.modelcontextprotocol/subscriptionId")
