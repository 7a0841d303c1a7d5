"""A legacy session with a server process of its own.

The client's `initialize` went to that process unchanged, so client and server
agree on versions and capabilities themselves; the shim only carries messages.
The ids of the client's requests are replaced, since some clients use one id for
all of them; the server's requests keep theirs. In this era a dropped connection
does not cancel a call.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

from mcpmesh.shim.calls.client_call import CANCELLED, ClientCall, needs_rewrite, rewrite, timeout_failure
from mcpmesh.shim.context import Context
from mcpmesh.shim.errors import INTERNAL_ERROR, answer_lost
from mcpmesh.shim.http.exchange import Exchange, PausableSource
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.server.channel import ServerExit
from mcpmesh.shim.server.peer import Peer
from mcpmesh.shim.server.pool import Pool
from mcpmesh.shim.server.tool_list import ToolListRefresher
from mcpmesh.shim.sessions.registry import SessionRegistry
from mcpmesh.shim.sessions.session import MAX_SERVER_REQUESTS, NOT_DELIVERED, TOO_MANY_REQUESTS, Session

# How long (seconds) a server may still answer a call that its client cancelled.
CANCEL_SECONDS: Final = 5.0


class DedicatedCall(ClientCall):
    """A call of a session's client at the session's own server."""

    __slots__ = ("cancel_sent", "peer")

    def __init__(self, context: Context, peer: Peer, exchange: Exchange, client_id: bytes, method: str) -> None:
        super().__init__(context, exchange, client_id, method, "legacy")
        self.peer = peer
        self.cancel_sent = False

    @property
    def source(self) -> PausableSource | None:
        return self.peer

    def client_gone(self) -> None:
        # This cancels nothing, but the session's idle time starts now.
        if isinstance(session := self.peer.listener, DedicatedSession):
            session.last_used = self.context.now()

    def expired(self) -> None:
        self.peer.cancel(self, "the time for an answer is over")
        self.failed(timeout_failure(self.context.config.request_seconds))

    def cancel_unanswered(self) -> None:
        """CANCEL_SECONDS after the client's cancel: end the call if the server, as it should, did not answer it."""
        if self.peer.calls.get(self.id) is self:
            self.peer.forget(self)
            self.failed(CANCELLED)


class DedicatedSession(Session):
    """Receives all that its process sends (a PeerListener), and ends with it."""

    def __init__(
        self, context: Context, id: str, peer: Peer, pool: Pool, registry: SessionRegistry, tool_list: ToolListRefresher
    ) -> None:
        super().__init__(context, id)
        self.peer = peer
        self.pool = pool
        self.registry = registry
        self.tool_list = tool_list
        # In order of arrival. Which call one belongs to is unknown, so it stays after a call's end.
        self.server_requests: dict[codec.Id, None] = {}
        peer.listener = self

    @property
    def busy(self) -> bool:
        return bool(self.streams) or any(
            isinstance(call, ClientCall) and call.exchange.live for call in self.peer.calls.values()
        )

    # From the client.

    def request(self, exchange: Exchange, message: Any) -> None:
        peer = self.peer
        call = DedicatedCall(self.context, peer, exchange, codec.id_json(message.id), message.method)
        if needs_rewrite(exchange.head, message.params):
            peer.register(call)
            peer.channel.write(codec.request(call.id, message.method, rewrite(call, message.params, exchange.head)))
        else:
            peer.send(call, message.method, message.params)

    def notification(self, message: Any) -> None:
        cancels = message.method == "notifications/cancelled"
        # A cancel makes room, so even a server with as many calls as it may have takes it.
        if (failure := self.peer.stall() if cancels else self.peer.overload()) is not None:
            raise failure
        if cancels:
            self._cancel(message)
        else:
            # Built anew: a server that matches members in any case could read another message in the original.
            self.peer.notify(message.method, message.params)

    def _cancel(self, message: Any) -> None:
        with contextlib.suppress(codec.Malformed):
            params = codec.members(message.params)
            client_id = codec.id_json(codec.decode(params.get("requestId", b"null")))
            for call in reversed(self.peer.calls.values()):
                # Some clients use one id for all calls: the next cancel of that id is for another call.
                if isinstance(call, DedicatedCall) and call.client_id == client_id and not call.cancel_sent:
                    call.cancel_sent = True
                    self.peer.notify("notifications/cancelled", codec.encode({**params, "requestId": call.id}))
                    self.context.later(CANCEL_SECONDS, call.cancel_unanswered)
                    return

    @property
    def source(self) -> PausableSource | None:
        return self.peer

    def response(self, message: Any) -> None:
        if message.id not in self.server_requests:
            self.context.metrics.count("stray_messages")
            return
        if (failure := self.peer.stall()) is not None:
            raise failure
        del self.server_requests[message.id]
        if message.error:
            self.peer.answer_error(message.id, message.error)
        else:
            self.peer.answer(message.id, message.result)

    def open_exchanges(self) -> list[Exchange]:
        return [
            call.exchange
            for call in self.peer.calls.values()
            if isinstance(call, DedicatedCall) and call.exchange.live and call.method != "initialize"
        ]

    def close(self) -> None:
        super().close()
        failure = answer_lost("the session was ended before the server answered", "session-ended")
        self.peer.fail_calls(failure)
        self.pool.stop_soon(self.peer)

    # From the server.

    def server_request(self, peer: Peer, message: Any) -> None:
        if message.method == "ping":
            peer.answer_from_shim(message.id, b"{}")
            return
        self.server_requests.pop(message.id, None)
        if len(self.server_requests) >= MAX_SERVER_REQUESTS:
            self._refuse(next(iter(self.server_requests)), TOO_MANY_REQUESTS)
        self.server_requests[message.id] = None
        request = codec.bare_request(codec.id_json(message.id), message.method, message.params)
        self.send(request, message.id)

    def request_dropped(self, id: codec.Id) -> None:
        if id in self.server_requests:
            self._refuse(id, NOT_DELIVERED)

    def _refuse(self, id: codec.Id, reason: str) -> None:
        del self.server_requests[id]
        self.context.metrics.count("refused_requests")
        self.peer.refuse(id, INTERNAL_ERROR, reason)

    def server_notification(self, _peer: Peer, message: Any) -> None:
        self.tool_list.notification(message.method)
        self.send(codec.notification(message.method, message.params))

    def server_exited(self, _peer: Peer, _exit: ServerExit) -> None:
        self.registry.end(self)
