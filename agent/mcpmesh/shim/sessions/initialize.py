"""From a client's `initialize` to its session.

With a process per session, the client's own words go to that process and its
own answer comes back. Over kept processes the shim answers from what it knows
of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcpmesh.shim.calls.client_call import reply_failure
from mcpmesh.shim.errors import Failure, lost
from mcpmesh.shim.http.exchange import Exchange, Owner
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.server.peer import Child
from mcpmesh.shim.sessions.dedicated import OwnCall, OwnSession
from mcpmesh.shim.sessions.multiplexed import SharedSession
from mcpmesh.shim.sessions.session import Session

if TYPE_CHECKING:
    from mcpmesh.shim.app import App


class InitializeCall(OwnCall):
    """The call whose result opens the session."""

    __slots__ = ("opening",)
    patience = "start_seconds"

    def __init__(self, opening: Opening, child: Child) -> None:
        super().__init__(opening.app, child, opening.exchange, opening.id, "initialize")
        self.opening = opening

    def answered(self, message: Any) -> None:
        opening = self.opening
        if not message.result:
            if self.app.profile.modern and not self.app.profile.legacy:
                # The program speaks the modern era only, as it turns out.
                self.app.profile.legacy = False
                self.app.supply.stop_soon(self.child)
                opening.again()
                return
            opening.count("error")
            opening.end(self.child)
            self.exchange.reply(200, codec.error_pieces(self.client_id, message.error))
            return
        if self.app.profile.modern and not self.app.profile.legacy:
            members = codec.members(message.result)
            self.app.profile.learn_legacy(codec.value(members.get("protocolVersion", b"null")))
        opening.count("ok")
        opening.open(OwnSession(self.app, opening.session_id, self.child), message.result)

    def failed(self, failure: Failure) -> None:
        self.opening.end(self.child)
        super().failed(failure)

    def gone(self) -> None:
        # Nobody learns the session's id.
        self.child.forget(self)
        self.opening.count("cancelled")
        self.opening.end(self.child)

    def expired(self) -> None:
        self.child.forget(self)
        seconds = self.app.config.start_seconds
        self.failed(lost(f"the server did not answer initialize within {seconds:g} s (start_seconds)", "timeout"))


class Opening(Owner):
    """One initialize in progress."""

    def __init__(self, app: App, exchange: Exchange, message: Any) -> None:
        self.app = app
        self.exchange = exchange
        self.message = message
        self.id = codec.id_json(message.id)
        self.session_id = app.new_session_id()
        self.header = b"mcp-session-id: %b\r\n" % self.session_id.encode()
        exchange.extra = self.header
        exchange.owner = self
        app.opening += 1
        self._begin()

    def _begin(self) -> None:
        own = self.app.config.isolation == "session" and self.app.profile.legacy is not False
        supply = self.app.supply
        if not own:
            if supply.main is not None and supply.main.alive:
                self._open_shared()
            else:
                self.app.spawn(self._open_shared_later(), "open a session")
        elif (child := supply.spare()) is not None:
            self._ask(child)
        else:
            self.app.spawn(self._open_own(), "open a session")

    def again(self) -> None:
        """Begin anew after it turned out which eras the server speaks."""
        self.exchange.owner = self
        self._begin()

    async def _open_own(self) -> None:
        try:
            try:
                child = await self.app.supply.take()
            except Failure as failure:
                if failure.reason != "full" or not self.app.evict():
                    raise
                child = await self.app.supply.take()
        except Failure as failure:
            self.end(None)
            reply_failure(self.exchange, self.id, failure)
            return
        if self.exchange.live:
            self._ask(child)
        else:
            self.end(child)

    def _ask(self, child: Child) -> None:
        call = InitializeCall(self, child)
        try:
            child.send(call, "initialize", self.message.params)
        except Failure as failure:
            call.failed(failure)

    async def _open_shared_later(self) -> None:
        try:
            await self.app.supply.ready_main()
        except Failure as failure:
            self.end(None)
            reply_failure(self.exchange, self.id, failure)
        else:
            if self.exchange.live:
                self._open_shared()
            else:
                self.end(None)

    def _open_shared(self) -> None:
        try:
            members = codec.members(self.message.params) if self.message.params else {}
            session = SharedSession(self.app, self.session_id, members)
        except codec.Malformed:
            self.end(None)
            reply_failure(self.exchange, self.id, Failure(-32602, "the params of initialize must be an object"))
        except Failure as failure:
            self.end(None)
            reply_failure(self.exchange, self.id, failure)
        else:
            self.count("ok")
            self.open(session, session.initialized())

    def open(self, session: Session, result: codec.Buffer) -> None:
        """The session is there; tell the client its id."""
        app = self.app
        app.opening -= 1
        app.sessions[session.id] = session
        app.metrics.count("sessions_opened")
        pieces = codec.result_pieces(self.id, result)
        if self.exchange.streaming:
            self.exchange.event(pieces)
            self.exchange.end()
        else:
            self.exchange.reply(200, pieces)

    def end(self, child: Child | None) -> None:
        """No session comes of it."""
        self.app.opening -= 1
        self.exchange.extra = b""
        if child is not None:
            self.app.supply.stop_soon(child)

    def count(self, outcome: str) -> None:
        """For the metrics."""
        self.app.metrics.call("legacy", "initialize", outcome, self.app.now() - self.exchange.started)
