"""From a client's `initialize` to its session.

In session isolation the client's `initialize` goes to a process of its own, and
that process answers it. Over shared processes the shim answers, from what it
knows of the server.
"""

from __future__ import annotations

from typing import Any

from mcpmesh.shim.calls.dispatcher import Dispatcher
from mcpmesh.shim.errors import INVALID_PARAMS, Failure, answer_lost
from mcpmesh.shim.http.exchange import Exchange, Responder, reply_failure
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.server.peer import Peer
from mcpmesh.shim.server.tool_list import ToolListRefresher
from mcpmesh.shim.sessions.dedicated_session import DedicatedCall, DedicatedSession
from mcpmesh.shim.sessions.multiplexed_session import MultiplexedSession
from mcpmesh.shim.sessions.registry import SessionRegistry
from mcpmesh.shim.sessions.session import Session
from mcpmesh.shim.subscriptions.hub import SubscriptionHub


class SessionOpener:
    """Opens the sessions of one shim."""

    def __init__(
        self, registry: SessionRegistry, dispatcher: Dispatcher, hub: SubscriptionHub, tool_list: ToolListRefresher
    ) -> None:
        self.context = dispatcher.context
        self.pool = dispatcher.pool
        self.server_info = dispatcher.server_info
        self.registry = registry
        self.dispatcher = dispatcher
        self.hub = hub
        self.tool_list = tool_list

    def open(self, exchange: Exchange, message: Any) -> None:
        """A client's `initialize`; raises Failure when there is no room for its session."""
        self.registry.check_room()
        SessionOpening(self, exchange, message).begin()


class SessionOpening(Responder):
    """One `initialize` in progress."""

    is_call = True

    def __init__(self, opener: SessionOpener, exchange: Exchange, message: Any) -> None:
        self.context = opener.context
        self.pool = opener.pool
        self.server_info = opener.server_info
        self.opener = opener
        self.exchange = exchange
        self.message = message
        self.client_id = codec.id_json(message.id)
        self.session_id = opener.registry.new_id()
        exchange.extra_headers = b"mcp-session-id: %b\r\n" % self.session_id.encode()
        exchange.responder = self
        opener.registry.opening += 1

    def begin(self) -> None:
        """Send `initialize` to a process of the session's own, or open a session over shared ones."""
        dedicated = self.context.config.isolation == "session" and self.server_info.legacy is not False
        if not dedicated:
            if self.pool.main is not None and self.pool.main.alive:
                self._open_multiplexed()
            else:
                self.context.spawn(self._open_multiplexed_later(), "open a session")
        elif (peer := self.pool.take_spare()) is not None:
            self._send_initialize(peer)
        else:
            self.context.spawn(self._open_dedicated_later(), "open a session")

    def begin_again(self) -> None:
        """Begin again, after it turned out which eras the server speaks."""
        self.exchange.responder = self
        self.begin()

    async def _open_dedicated_later(self) -> None:
        try:
            try:
                peer = await self.pool.take()
            except Failure as failure:
                if failure.reason != "full" or not self.opener.registry.evict():
                    raise
                peer = await self.pool.take()
        except Failure as failure:
            self.give_up(None)
            reply_failure(self.exchange, self.client_id, failure)
            return
        if self.exchange.live:
            self._send_initialize(peer)
        else:
            self.give_up(peer)

    def _send_initialize(self, peer: Peer) -> None:
        call = InitializeCall(self, peer)
        try:
            peer.send(call, "initialize", self.message.params)
        except Failure as failure:
            call.failed(failure)

    async def _open_multiplexed_later(self) -> None:
        try:
            await self.pool.wait_for_main()
        except Failure as failure:
            self.give_up(None)
            reply_failure(self.exchange, self.client_id, failure)
        else:
            if self.exchange.live:
                self._open_multiplexed()
            else:
                self.give_up(None)

    def _open_multiplexed(self) -> None:
        opener = self.opener
        try:
            members = codec.members(self.message.params) if self.message.params else {}
            session = MultiplexedSession(self.session_id, members, opener.dispatcher, opener.hub)
        except codec.Malformed:
            self.give_up(None)
            failure = Failure(INVALID_PARAMS, "the params of initialize must be an object")
            reply_failure(self.exchange, self.client_id, failure)
        except Failure as failure:
            self.give_up(None)
            reply_failure(self.exchange, self.client_id, failure)
        else:
            self.count("ok")
            self._opened(session, session.initialize_result())

    def open_dedicated(self, peer: Peer, result: codec.Buffer) -> None:
        """The server accepted `initialize`."""
        opener = self.opener
        session = DedicatedSession(self.context, self.session_id, peer, self.pool, opener.registry, opener.tool_list)
        self._opened(session, result)

    def _opened(self, session: Session, result: codec.Buffer) -> None:
        registry = self.opener.registry
        registry.opening -= 1
        registry.add(session)
        pieces = codec.result_pieces(self.client_id, result)
        if self.exchange.streaming:
            self.exchange.event(pieces)
            self.exchange.end()
        else:
            self.exchange.reply(200, pieces)

    def give_up(self, peer: Peer | None) -> None:
        """No session is opened; a process that was taken for it is stopped."""
        self.opener.registry.opening -= 1
        self.exchange.extra_headers = b""
        if peer is not None:
            self.pool.stop_soon(peer)

    def count(self, outcome: str) -> None:
        """Count `initialize` in the metrics."""
        seconds = self.context.now() - self.exchange.started
        self.context.metrics.call("legacy", "initialize", outcome, seconds)


class InitializeCall(DedicatedCall):
    """The call whose result opens a dedicated session."""

    __slots__ = ("opening",)
    timeout_setting = "start_seconds"

    def __init__(self, opening: SessionOpening, peer: Peer) -> None:
        super().__init__(opening.context, peer, opening.exchange, opening.client_id, "initialize")
        self.opening = opening

    def answered(self, message: Any) -> None:
        opening, server_info = self.opening, self.opening.server_info
        era_unknown = server_info.modern and not server_info.legacy
        if not message.result:
            if era_unknown:
                # It turns out that the program speaks the modern era only.
                server_info.legacy = False
                opening.pool.stop_soon(self.peer)
                opening.begin_again()
                return
            opening.count("error")
            opening.give_up(self.peer)
            self.exchange.reply(200, codec.error_pieces(self.client_id, message.error))
            return
        if era_unknown:
            members = codec.members(message.result)
            server_info.update_legacy_version(codec.decode(members.get("protocolVersion", b"null")))
        opening.count("ok")
        opening.open_dedicated(self.peer, message.result)

    def failed(self, failure: Failure) -> None:
        self.opening.give_up(self.peer)
        super().failed(failure)

    def client_gone(self) -> None:
        # The client never learned the session's id.
        self.peer.forget(self)
        self.opening.count("cancelled")
        self.opening.give_up(self.peer)

    def expired(self) -> None:
        self.peer.forget(self)
        seconds = self.context.config.start_seconds
        self.failed(
            answer_lost(f"the server did not answer initialize within {seconds:g} s (start_seconds)", "timeout")
        )
