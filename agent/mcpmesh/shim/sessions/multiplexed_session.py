"""A legacy session over shared server processes (isolation shared and request).

The session exists in the shim, not in a server: the shim itself answers
`initialize`, `ping`, log levels and resource subscriptions; other requests are
multiplexed with those of other callers.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

from mcpmesh.shim.calls.client_call import CANCELLED, ClientCall
from mcpmesh.shim.calls.dispatcher import Dispatcher
from mcpmesh.shim.errors import INVALID_PARAMS, Failure, answer_lost
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.protocol.modern_request import LOG_LEVELS
from mcpmesh.shim.protocol.versions import LATEST_LEGACY, LEGACY
from mcpmesh.shim.sessions.legacy_call import LegacyCall, Question
from mcpmesh.shim.sessions.session import MAX_SERVER_REQUESTS, NOT_DELIVERED, TOO_MANY_REQUESTS, Session
from mcpmesh.shim.subscriptions.hub import SubscriptionHub

RESOURCE_SUBSCRIPTIONS: Final = ("resources/subscribe", "resources/unsubscribe")
# No server gets these, since the session is the shim's own.
ANSWERED_HERE: Final = frozenset(("ping", "logging/setLevel", *RESOURCE_SUBSCRIPTIONS))


class MultiplexedSession(Session):
    """A session without a process of its own."""

    def __init__(self, id: str, client: dict[str, Any], dispatcher: Dispatcher, hub: SubscriptionHub) -> None:
        """`client` are the members of the params of `initialize`; raises Failure when they are malformed."""
        super().__init__(dispatcher.context, id)
        self.client = client
        self.dispatcher = dispatcher
        self.call_context = dispatcher.call_context
        self.server_info = dispatcher.server_info
        self.hub = hub
        try:
            self.capabilities: dict[str, Any] = dict(codec.decode(client.get("capabilities", b"{}")))
            requested = codec.decode(client.get("protocolVersion", b'""'))
        except (codec.Malformed, TypeError, ValueError):
            raise Failure(INVALID_PARAMS, "the params of initialize are malformed") from None
        self.version = requested if requested in LEGACY else LATEST_LEGACY
        self.log_level: str | None = None
        self.calls: dict[LegacyCall, None] = {}
        """In order of arrival."""
        self._questions: dict[int, Question] = {}
        self._next_id = 1

    def initialize_result(self) -> bytes:
        """The result of the client's `initialize`."""
        server_info = self.server_info
        result: dict[str, Any] = {
            "protocolVersion": self.version,
            "capabilities": server_info.capabilities,
            "serverInfo": {"name": self.context.config.name, "version": "", **server_info.identity},
        }
        if server_info.instructions is not None:
            result["instructions"] = server_info.instructions
        return codec.encode(result)

    @property
    def busy(self) -> bool:
        return bool(self.streams or self.open_exchanges())

    # From the client.

    def request(self, exchange: Exchange, message: Any) -> None:
        if message.method in ANSWERED_HERE:
            try:
                self._answer_here(exchange, message)
            except (Failure, codec.Malformed):
                self._count(exchange, message, "error")
                raise
            return
        call = LegacyCall(self.call_context, self, exchange, message)
        self.calls[call] = None
        try:
            self.dispatcher.dispatch(call, call.send)
        except Failure:
            del self.calls[call]
            raise

    def _answer_here(self, exchange: Exchange, message: Any) -> None:
        if message.method in RESOURCE_SUBSCRIPTIONS:
            self.hub.resource_request(self, exchange, message)
            return
        if message.method == "logging/setLevel":
            self._set_log_level(message.params)
        self.answer(exchange, message)

    def answer(self, exchange: Exchange, message: Any, error: codec.Buffer = b"") -> None:
        """Answer a request that no server gets, with an empty result if there is no error."""
        self._count(exchange, message, "error" if error else "ok")
        id = codec.id_json(message.id)
        exchange.reply(200, codec.error_pieces(id, error) if error else codec.result_pieces(id, b"{}"))

    def _count(self, exchange: Exchange, message: Any, outcome: str) -> None:
        self.context.metrics.call("legacy", message.method, outcome, self.context.now() - exchange.started)

    def _set_log_level(self, params: codec.Buffer) -> None:
        whole, _ = translation.split_meta(params)
        level = codec.decode(whole.get("level", b"null"))
        if level not in LOG_LEVELS:
            raise Failure(INVALID_PARAMS, f"level must be one of {', '.join(LOG_LEVELS)}")
        self.log_level = level
        main = self.dispatcher.pool.main
        if main is not None and not main.modern and "logging" in self.server_info.capabilities:
            self.context.spawn(self.hub.update_log_level(main), "set level")

    def notification(self, message: Any) -> None:
        if message.method == "notifications/initialized":
            self.hub.add_subscriber(self)
        elif message.method == "notifications/cancelled":
            with contextlib.suppress(codec.Malformed):
                client_id = codec.id_json(codec.decode(codec.members(message.params).get("requestId", b"null")))
                # An id that is used again means the newest call.
                for call in reversed(self.calls):
                    if call.client_id == client_id:
                        if call.peer is not None:
                            call.peer.cancel(call, "cancelled by the client")
                        call.failed(CANCELLED)
                        return

    def response(self, message: Any) -> None:
        question = self._questions.get(message.id) if isinstance(message.id, int) else None
        if question is None:
            self.context.metrics.count("stray_messages")
            return
        if (failure := question.obstacle()) is not None:
            raise failure
        del self._questions[message.id]
        question.answered(message)

    # From the server.

    def ask(self, method: str, params: codec.Buffer, question: Question) -> int:
        """Send the client a request; returns the id that it has there."""
        if len(self._questions) >= MAX_SERVER_REQUESTS:
            self._questions.pop(next(iter(self._questions))).refused(TOO_MANY_REQUESTS)
        id = self._next_id
        self._next_id += 1
        self._questions[id] = question
        self.send(codec.bare_request(b"%d" % id, method, params), id)
        return id

    def request_dropped(self, id: codec.Id) -> None:
        if isinstance(id, int) and (question := self._questions.pop(id, None)) is not None:
            question.refused(NOT_DELIVERED)

    def withdraw(self, ids: list[int]) -> None:
        """Refuse these requests if the client has not answered them: their call has ended."""
        for id in ids:
            if (question := self._questions.pop(id, None)) is not None:
                question.refused("the call that it belongs to is over")

    def open_exchanges(self) -> list[Exchange]:
        return [call.exchange for call in self.calls if call.exchange.live]

    def detached_calls(self) -> list[ClientCall]:
        return [call for call in self.calls if not call.exchange.live]

    def close(self) -> None:
        super().close()
        self.hub.remove_subscriber(self)
        failure = answer_lost("the session was ended before the server answered", "session-ended")
        for call in list(self.calls):
            if call.peer is not None:
                call.peer.cancel(call, "the session was ended")
            call.failed(failure)
