"""A legacy session with a server process of its own.

The client's `initialize` went to that process as it came, so capabilities and
versions are settled between the two; the shim carries messages. Ids of the
client's requests are replaced, since some clients use one id for all; the
server's requests keep theirs. A dropped connection is no cancel here.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from mcpmesh.shim.calls.client_call import CANCELLED, RelayCall, needs_rewrite, rewrite, timed_out
from mcpmesh.shim.errors import INTERNAL_ERROR, lost
from mcpmesh.shim.http.exchange import Exchange, Source
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.server.peer import Child
from mcpmesh.shim.server.stdio_process import Exit
from mcpmesh.shim.sessions.session import CANCEL_SECONDS, MAX_ASKED, NOT_TOLD, TOO_MANY_ASKED, Session

if TYPE_CHECKING:
    from mcpmesh.shim.app import App


class OwnCall(RelayCall):
    """A call of a session's client at the session's own server."""

    __slots__ = ("child", "given_up")

    def __init__(self, app: App, child: Child, exchange: Exchange, client_id: bytes, method: str) -> None:
        super().__init__(app, exchange, client_id, method, "legacy")
        self.child = child
        self.given_up = False

    @property
    def source(self) -> Source | None:
        return self.child

    def gone(self) -> None:
        # No cancel; but from now on nobody seems to be there.
        if isinstance(session := self.child.listener, OwnSession):
            session.used = self.app.now()

    def expired(self) -> None:
        self.child.cancel(self, "the time for an answer is over")
        self.failed(timed_out(self.app.config.request_seconds))

    def cancelled(self) -> None:
        """Some time after the client's cancel: a server that kept silent, as it should, is waited for no longer."""
        if self.child.calls.get(self.id) is self:
            self.child.forget(self)
            self.failed(CANCELLED)


class OwnSession(Session):
    """Listens to its process; ends with it."""

    def __init__(self, app: App, id: str, child: Child) -> None:
        super().__init__(app, id)
        self.child = child
        # In the order that they came. Which call one belongs to can't be told, so it is kept beyond the call's end.
        self.asked_ids: dict[codec.Id, None] = {}
        child.listener = self

    @property
    def busy(self) -> bool:
        return bool(self.streams) or any(
            isinstance(call, RelayCall) and call.exchange.live for call in self.child.calls.values()
        )

    def request(self, exchange: Exchange, message: Any) -> None:
        child = self.child
        call = OwnCall(self.app, child, exchange, codec.id_json(message.id), message.method)
        if needs_rewrite(exchange.head, message.params):
            child.reserve(call)
            child.process.write(codec.request(call.id, message.method, rewrite(call, message.params, exchange.head)))
        else:
            child.send(call, message.method, message.params)

    def notification(self, message: Any) -> None:
        cancels = message.method == "notifications/cancelled"
        # A cancel makes room: a server that has all the calls it may have takes it.
        if (failure := self.child.stalled() if cancels else self.child.full()) is not None:
            raise failure
        if not cancels:
            # From its parts: a server that takes members of any case would read another message in it.
            self.child.notify(message.method, message.params)
            return
        with contextlib.suppress(codec.Malformed):
            params = codec.members(message.params)
            wanted = codec.id_json(codec.value(params.get("requestId", b"null")))
            for call in reversed(self.child.calls.values()):
                # Some clients use one id for all: the next cancel of it is another call's.
                if isinstance(call, OwnCall) and call.client_id == wanted and not call.given_up:
                    call.given_up = True
                    self.child.notify("notifications/cancelled", codec.encode({**params, "requestId": call.id}))
                    self.app.later(CANCEL_SECONDS, call.cancelled)
                    return

    @property
    def source(self) -> Source | None:
        return self.child

    def response(self, message: Any) -> None:
        if message.id not in self.asked_ids:
            self.app.metrics.count("stray_messages")
            return
        if (failure := self.child.stalled()) is not None:
            raise failure
        del self.asked_ids[message.id]
        if message.error:
            self.child.answer_error(message.id, message.error)
        else:
            self.child.answer(message.id, message.result)

    def exchanges(self) -> list[Exchange]:
        return [
            call.exchange
            for call in self.child.calls.values()
            if isinstance(call, OwnCall) and call.exchange.live and call.method != "initialize"
        ]

    def close(self) -> None:
        super().close()
        failure = lost("the session was ended before the server answered", "session-ended")
        self.child.fail_calls(failure)
        self.app.supply.stop_soon(self.child)

    # From the server.

    def asked(self, child: Child, message: Any) -> None:
        if message.method == "ping":
            child.answer_itself(message.id, b"{}")
            return
        self.asked_ids.pop(message.id, None)
        if len(self.asked_ids) >= MAX_ASKED:
            self._refuse(next(iter(self.asked_ids)), TOO_MANY_ASKED)
        self.asked_ids[message.id] = None
        self.tell(codec.bare_request(codec.id_json(message.id), message.method, message.params), message.id)

    def unasked(self, id: codec.Id) -> None:
        if id in self.asked_ids:
            self._refuse(id, NOT_TOLD)

    def _refuse(self, id: codec.Id, reason: str) -> None:
        del self.asked_ids[id]
        self.app.metrics.count("refused_requests")
        self.child.refuse(id, INTERNAL_ERROR, reason)

    def notified(self, _child: Child, message: Any) -> None:
        self.app.server_notified(message.method)
        self.tell(codec.notification(message.method, message.params))

    def ended(self, _child: Child, _exit: Exit) -> None:
        self.app.end_session(self)
