"""A legacy session's opening: the client's own `initialize`, given to a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcpmesh.shim import wire
from mcpmesh.shim.failure import Failure
from mcpmesh.shim.http import Exchange
from mcpmesh.shim.relay import reply_failure, timed_out
from mcpmesh.shim.session import LegacyCall, Session

if TYPE_CHECKING:
    from mcpmesh.shim.app import App


class InitializeCall(LegacyCall):
    """The call whose result opens the session."""

    __slots__ = ()

    def answered(self, message: Any) -> None:
        app = self.app
        app.opening -= 1
        app.metrics.call("legacy", "initialize", "ok" if message.result else "error", app.now() - self.exchange.started)
        if not message.result:
            app.supply.stop_soon(self.session.child)
            self.exchange.reply(200, wire.error_pieces(self.client_id, message.error))
            return
        if not self.exchange.live:  # nobody learns the session's id
            app.supply.stop_soon(self.session.child)
            return
        app.sessions[self.session.id] = self.session
        app.metrics.count("sessions_opened")
        header = b"mcp-session-id: %b\r\n" % self.session.id.encode()
        self.exchange.reply(200, wire.result_pieces(self.client_id, message.result), extra=header)

    def failed(self, failure: Failure) -> None:
        self.app.opening -= 1
        super().failed(failure)

    def expired(self) -> None:
        self.session.child.forget(self)
        self.app.supply.stop_soon(self.session.child)
        self.failed(timed_out(self.app.config.request_seconds))


class Opening:
    """From the client's initialize to the session."""

    def __init__(self, app: App, exchange: Exchange, message: Any) -> None:
        self.app = app
        self.exchange = exchange
        exchange.owner = self
        app.opening += 1
        app.spawn(self._open(message), "open a session")

    async def _open(self, message: Any) -> None:
        id = wire.id_json(message.id)
        app = self.app
        try:
            child = await app.supply.take()
        except Failure as failure:
            app.opening -= 1
            reply_failure(self.exchange, id, failure)
            return
        if not self.exchange.live:
            app.opening -= 1
            app.supply.stop_soon(child)
            return
        session = Session(app, app.new_session_id(), child)
        call = InitializeCall(session, self.exchange, id, "initialize")
        try:
            child.send(call, "initialize", message.params)
        except Failure as failure:
            call.failed(failure)

    def gone(self) -> None:
        """Seen when the process is there."""

    def expired(self) -> None:
        """Starting a process has its own deadline."""
