"""All client connections of a shim, and what they share: limits, the handler of requests, the count of body bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mcpmesh.shim.context import Context
from mcpmesh.shim.errors import INVALID_REQUEST, PARSE_ERROR
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.http.request_head import Head, HostRules
from mcpmesh.shim.jsonrpc.codec import error_body, error_pieces


class Handler(Protocol):
    """Takes each complete request and answers its exchange, now or later."""

    def __call__(self, exchange: Exchange, head: Head, body: bytes) -> None: ...


class ClientConnection(Protocol):
    """One client connection, as the ticker and a drain see it."""

    exchange: Exchange | None
    waiting_since: float

    @property
    def idle(self) -> bool:
        """No part of a request has arrived."""

    def abort(self) -> None: ...
    def close(self) -> None: ...


class Connections:
    """The open connections. What each request needs is bound here, so that it is found in one step."""

    def __init__(self, context: Context, handle: Handler) -> None:
        limits = context.limits
        self.context = context
        self.handle = handle
        self.now = context.now
        self.metrics = context.metrics
        self.rules = HostRules(context.config.allowed_hosts, context.config.allowed_origins)
        self.body_bytes = limits.body_bytes
        self.header_bytes = limits.header_bytes
        self.stream_bytes = limits.stream_bytes
        self.max_incoming_bytes = limits.incoming_bytes
        self.open: set[ClientConnection] = set()
        self.incoming_bytes = 0
        """Bytes of request bodies that are not complete yet."""
        self.on_opened: Callable[[], None] = lambda: None

    def add(self, connection: ClientConnection) -> None:
        """A client connected; beyond the limit the connection is closed at once."""
        if len(self.open) >= self.context.limits.connections:
            connection.abort()
        self.open.add(connection)
        self.on_opened()

    def remove(self, connection: ClientConnection) -> None:
        """A connection was closed."""
        self.open.discard(connection)
        self.context.memory_freed = True

    @property
    def in_flight(self) -> int:
        """Exchanges whose answer is due; streams without an end don't count."""
        return sum(
            1
            for connection in self.open
            if (exchange := connection.exchange) is not None
            and exchange.responder is not None
            and exchange.responder.is_call
        )

    def rejection_body(self, status: int, message: str) -> bytes:
        """Count and build the answer to bytes that could not be read as a request."""
        self.metrics.status(status)
        code = PARSE_ERROR if status == 400 else INVALID_REQUEST
        return b"".join(map(bytes, error_pieces(b"null", error_body(code, message))))
