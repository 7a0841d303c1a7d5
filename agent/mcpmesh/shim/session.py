"""A legacy session with a server process of its own.

The client's `initialize` went to that process as it came, so capabilities and
versions are settled between the two; the shim carries messages. Ids of the
client's requests are replaced, since some clients use one id for all; the
server's requests keep theirs. A dropped connection is no cancel here.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from mcpmesh.shim import wire
from mcpmesh.shim.child import Child
from mcpmesh.shim.failure import Failure
from mcpmesh.shim.http import Exchange
from mcpmesh.shim.process import Exit
from mcpmesh.shim.relay import RelayCall, timed_out

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

# How long (seconds) a server may still answer a call that its client cancelled.
CANCEL_SECONDS = 5.0


class LegacyCall(RelayCall):
    """A call of a session's client at the session's own server."""

    __slots__ = ("session",)

    def __init__(self, session: Session, exchange: Exchange, client_id: bytes, method: str) -> None:
        super().__init__(session.app, exchange, client_id, method, "legacy")
        self.session = session

    def expired(self) -> None:
        self.session.child.cancel(self, "the time for an answer is over")
        self.failed(timed_out(self.app.config.request_seconds))

    def cancelled(self) -> None:
        """Some time after the client's cancel: a server that kept silent, as it should, is waited for no longer."""
        if self.exchange.live:
            self.session.child.forget(self)
            self.failed(Failure(-32603, "the call was cancelled by its client", {"reason": "cancelled"}))


class Stream:
    """A session's GET stream."""

    def __init__(self, session: Session, exchange: Exchange) -> None:
        self.session = session
        self.exchange = exchange
        exchange.owner = self

    def gone(self) -> None:
        self.session.stream_gone(self)

    def expired(self) -> None:
        """A stream has no deadline."""


class Session:
    """One client of the older protocol."""

    def __init__(self, app: App, id: str, child: Child) -> None:
        self.app = app
        self.id = id
        self.child = child
        self.version = ""
        self.used = app.now()
        self.ended_at: float | None = None
        self.streams: list[Stream] = []
        self.backlog: deque[bytes] = deque()
        self.asked_ids: set[wire.Id] = set()
        child.listener = self

    @property
    def busy(self) -> bool:
        """A call runs, or a stream is open."""
        return bool(self.child.calls or self.streams)

    # From the client.

    def request(self, exchange: Exchange, message: Any) -> None:
        """A request; its answer goes to the exchange. Raises Failure when it was not sent."""
        self.used = exchange.started
        call = LegacyCall(self, exchange, wire.id_json(message.id), message.method)
        self.send(call, message, exchange)

    def send(self, call: LegacyCall, message: Any, exchange: Exchange) -> None:
        """Give a call to the server."""
        params = message.params
        if exchange.head.traced or (params and b'"progressToken"' in bytes(params)):
            self.child.reserve(call)
            params = self.app.rewrite(call, params, exchange.head)
            self.child.process.write(wire.request(call.id, message.method, params))
        else:
            self.child.send(call, message.method, params)

    def notification(self, message: Any, raw: bytes) -> None:
        """A notification, passed on; a cancel is for the shim's id of the call."""
        if message.method != "notifications/cancelled":
            self.child.relay(raw)
            return
        with contextlib.suppress(wire.Malformed):
            params = wire.members(message.params)
            wanted = wire.id_json(wire.value(params.get("requestId", b"null")))
            for call in reversed(self.child.calls.values()):
                if isinstance(call, LegacyCall) and call.client_id == wanted:
                    self.child.notify("notifications/cancelled", wire.encode({**params, "requestId": call.id}))
                    self.app.later(CANCEL_SECONDS, call.cancelled)
                    return

    def response(self, message: Any, raw: bytes) -> None:
        """The client's answer to a request of the server's."""
        if message.id in self.asked_ids:
            self.asked_ids.discard(message.id)
            self.child.relay(raw)
        else:
            self.app.metrics.count("stray_messages")

    def listen(self, exchange: Exchange) -> None:
        """The client's GET: a stream for what belongs to no call, beginning with what was kept for it."""
        self.streams.append(Stream(self, exchange))
        exchange.open_stream()
        exchange.comment()
        while self.backlog and exchange.live:
            exchange.event([self.backlog.popleft()])

    def stream_gone(self, stream: Stream) -> None:
        self.used = self.app.now()
        self.streams.remove(stream)

    # From the server.

    def asked(self, child: Child, message: Any) -> None:
        if message.method == "ping":
            child.answer(message.id, b"{}")
            return
        self.asked_ids.add(message.id)
        self.tell(wire.one_line(wire.encode(message)))

    def notified(self, _child: Child, message: Any) -> None:
        self.app.profile_notified(message.method)
        self.tell(wire.notification(message.method, message.params))

    def ended(self, _child: Child, _exit: Exit) -> None:
        self.app.end_session(self)

    def tell(self, message: bytes) -> None:
        """A message of the server's own: on the one call that runs, else on the GET stream, else kept."""
        exchange = self._stream()
        if exchange is not None:
            exchange.event([message])
            return
        if len(self.backlog) >= self.app.limits.session_backlog:
            self.backlog.popleft()
            self.app.metrics.count("dropped_notifications")
        self.backlog.append(message)

    def _stream(self) -> Exchange | None:
        calls = [
            call.exchange
            for call in self.child.calls.values()
            if isinstance(call, LegacyCall) and call.exchange.live and call.method != "initialize"
        ]
        if len(calls) == 1:
            return calls[0]
        for stream in reversed(self.streams):
            if stream.exchange.live:
                return stream.exchange
        return calls[0] if calls else None

    def close(self) -> None:
        """End its streams. The process is stopped by the owner."""
        streams, self.streams = self.streams, []
        for stream in streams:
            stream.exchange.owner = None
            stream.exchange.end()
