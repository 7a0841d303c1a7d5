"""Calls at a process that is kept for everybody: each knows its caller, and what its caller may be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcpmesh.shim.calls.client_call import RelayCall, status_of, timed_out
from mcpmesh.shim.errors import Failure
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.modern_request import LOG_LEVELS
from mcpmesh.shim.protocol.translation import MAY_ASK
from mcpmesh.shim.server.peer import Child

if TYPE_CHECKING:
    from mcpmesh.shim.app import App


class CallerCall(RelayCall):
    """A call at a shared process: knows who its caller is, and takes what the server says to that caller."""

    __slots__ = ("asked", "child", "log_level")

    def __init__(self, app: App, exchange: Exchange, client_id: bytes, method: str, era: str) -> None:
        super().__init__(app, exchange, client_id, method, era)
        self.child: Child | None = None
        self.log_level: str | None = None
        self.asked = False
        """Whether the server asked its client something, or may have."""

    @property
    def at_work(self) -> bool:
        return True

    @property
    def may_ask(self) -> bool:
        return self.method in MAY_ASK

    @property
    def caller(self) -> object:
        """The same for all calls of one client, as far as that is known."""
        return self

    @property
    def askable(self) -> bool:
        """Whether its client can be asked anything."""
        return False

    @property
    def subject(self) -> tuple[str, bytes]:
        """What is called, without its arguments."""
        return self.method, b""

    def wants_log(self, level: str) -> bool:
        """Whether its client asked for log messages of this level."""
        return self.log_level is not None and LOG_LEVELS.index(level) >= LOG_LEVELS.index(self.log_level)

    def ask(self, child: Child, message: Any) -> None:
        """The server asks this call's client something."""
        self.app.metrics.count("refused_requests")
        child.refuse(message.id, -32601, f"{message.method} can't be asked in this revision")

    def dropped(self) -> None:
        """Its client left, or cancelled it, before there was a process for it: it was never sent."""

    def log(self, message: codec.Buffer) -> None:
        """A log message that belongs to this call and is wanted."""
        if self.exchange.live:
            self.exchange.event([codec.notification("notifications/message", message)])

    def release(self) -> None:
        """The call is over for its process."""
        if self.child is not None:
            if self.child.lease is self:
                self.child.lease = None
            self.app.supply.released(self.child)


class ModernCall(CallerCall):
    """A call of a modern client at a modern server."""

    __slots__ = ()

    def __init__(self, app: App, exchange: Exchange, client_id: bytes, method: str) -> None:
        super().__init__(app, exchange, client_id, method, "modern")

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

    def gone(self) -> None:
        self.count("cancelled")
        self._cancel("the client closed the response stream")

    def expired(self) -> None:
        self._cancel("the time for an answer is over")
        self.failed(timed_out(self.app.config.request_seconds))

    def _cancel(self, reason: str) -> None:
        if self.child is not None:
            self.child.cancel(self, reason)
            self.release()
