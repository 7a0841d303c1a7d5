"""Calls at a server process that many callers share: each knows its caller, and what that caller may receive."""

from __future__ import annotations

from typing import Any

from mcpmesh.shim.calls.call_context import CallContext
from mcpmesh.shim.calls.client_call import ClientCall, status_of, timeout_failure
from mcpmesh.shim.calls.server_request_history import Target
from mcpmesh.shim.errors import METHOD_NOT_FOUND, Failure
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.modern_request import LOG_LEVELS
from mcpmesh.shim.protocol.translation import INPUT_METHODS
from mcpmesh.shim.server.peer import Peer


class MultiplexedCall(ClientCall):
    """A call at a shared process. It receives what the server sends to its caller."""

    __slots__ = ("call_context", "led_to_server_request", "log_level", "peer")

    def __init__(self, call_context: CallContext, exchange: Exchange, client_id: bytes, method: str, era: str) -> None:
        super().__init__(call_context.context, exchange, client_id, method, era)
        self.call_context = call_context
        self.peer: Peer | None = None
        self.log_level: str | None = None
        self.led_to_server_request = False
        """Whether the server sent a request because of it, or may have."""

    @property
    def works_for_client(self) -> bool:
        return True

    @property
    def may_ask_client(self) -> bool:
        return self.method in INPUT_METHODS

    @property
    def caller(self) -> object:
        """The same for all calls of one client, as far as the shim knows."""
        return self

    @property
    def can_ask_client(self) -> bool:
        """Whether the client can answer server requests."""
        return False

    @property
    def target(self) -> Target:
        """What is called, without its arguments."""
        return self.method, b""

    def wants_log(self, level: str) -> bool:
        """Whether the client asked for log messages of this level."""
        return self.log_level is not None and LOG_LEVELS.index(level) >= LOG_LEVELS.index(self.log_level)

    def server_request(self, peer: Peer, message: Any) -> None:
        """The server sent a request to this call's client."""
        self.context.metrics.count("refused_requests")
        peer.refuse(message.id, METHOD_NOT_FOUND, f"{message.method} can't be asked in this revision")

    def dropped(self) -> None:
        """The client left or cancelled before there was a process: the call was never sent."""

    def log_message(self, params: codec.Buffer) -> None:
        """Pass on a log message of the server that belongs to this call."""
        if self.exchange.live:
            self.exchange.event([codec.notification("notifications/message", params)])

    def release(self) -> None:
        """The call has ended for its process."""
        peer = self.peer
        if peer is not None:
            if peer.lease is self:
                peer.lease = None
            self.call_context.pool.release(peer)


class ModernCall(MultiplexedCall):
    """A call of a modern client at a modern server."""

    __slots__ = ()

    def __init__(self, call_context: CallContext, exchange: Exchange, client_id: bytes, method: str) -> None:
        super().__init__(call_context, exchange, client_id, method, "modern")

    def answered(self, message: Any) -> None:
        self.release()
        if message.result or self.exchange.streaming:
            super().answered(message)
            return
        self.count("error")
        self.deliver(status_of(message.error), codec.error_pieces(self.client_id, message.error))

    def failed(self, failure: Failure) -> None:
        self.release()
        super().failed(failure)

    def client_gone(self) -> None:
        self.count("cancelled")
        self.cancel("the client closed the response stream")

    def expired(self) -> None:
        self.cancel("the time for an answer is over")
        self.failed(timeout_failure(self.context.config.request_seconds))

    def cancel(self, reason: str) -> None:
        """Tell the server that the answer is not wanted."""
        if self.peer is not None:
            self.peer.cancel(self, reason)
            self.release()
