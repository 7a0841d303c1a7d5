"""A legacy session: its id, its GET streams, and the messages that wait until one is open.

How requests reach a server is up to the subclasses: a dedicated session has a
process of its own, a multiplexed one shares processes with others.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from mcpmesh.shim.calls.client_call import ClientCall
from mcpmesh.shim.context import Context
from mcpmesh.shim.http.exchange import Exchange, PausableSource, Responder
from mcpmesh.shim.jsonrpc import codec

# A client that never answers must not fill the memory: beyond this number the oldest server request is refused.
MAX_SERVER_REQUESTS: Final = 256
TOO_MANY_REQUESTS: Final = f"its client does not answer, and {MAX_SERVER_REQUESTS} newer requests wait for it"
NOT_DELIVERED: Final = "its client does not listen, and too much waits for it"


class SessionStream(Responder):
    """A session's GET stream."""

    def __init__(self, session: Session, exchange: Exchange) -> None:
        self.session = session
        self.exchange = exchange
        exchange.responder = self

    @property
    def source(self) -> PausableSource | None:
        return self.session.source

    def client_gone(self) -> None:
        self.session.stream_closed(self)


class Session:
    """One client of the legacy era."""

    def __init__(self, context: Context, id: str) -> None:
        self.context = context
        self.id = id
        self.last_used = context.now()
        self.streams: list[SessionStream] = []
        self.backlog: deque[tuple[bytes, codec.Id | None]] = deque()
        """Messages for the client; a server request with the id by which its answer would come."""
        self.backlog_bytes = 0

    @property
    def busy(self) -> bool:
        """Whether the client is connected: it waits for an answer, or has a stream open."""
        return bool(self.streams)

    @property
    def source(self) -> PausableSource | None:
        """The process whose output goes to this session alone, if there is one."""
        return None

    def request(self, exchange: Exchange, message: Any) -> None:
        """A request of the client; its answer goes to the exchange. Raises Failure when it was not sent."""
        raise NotImplementedError

    def notification(self, message: Any) -> None:
        """A notification of the client; raises Failure when the server can't take it."""
        raise NotImplementedError

    def response(self, message: Any) -> None:
        """The client's answer to a server request; raises Failure when the server can't take it."""
        raise NotImplementedError

    def open_exchanges(self) -> list[Exchange]:
        """The exchanges of the session's calls whose clients wait, oldest first."""
        raise NotImplementedError

    def detached_calls(self) -> list[ClientCall]:
        """Calls without a connection that may wait for their client instead of a server."""
        return []

    def listen(self, exchange: Exchange) -> None:
        """The client's GET: open a stream for messages that belong to no call; the backlog is sent first."""
        self.streams.append(SessionStream(self, exchange))
        exchange.open_stream()
        exchange.comment()
        while self.backlog and exchange.live:
            exchange.event([self._pop_backlog()[0]])

    def stream_closed(self, stream: SessionStream) -> None:
        """The client closed a stream."""
        self.last_used = self.context.now()
        if stream in self.streams:
            self.streams.remove(stream)

    def request_dropped(self, id: codec.Id) -> None:
        """A server request was dropped from the backlog: the client will not see it."""
        raise NotImplementedError

    def send(self, message: bytes, request_id: codec.Id | None = None) -> None:
        """Send a message of the server: with the only running call, else on a GET stream, else put it in the backlog.

        `request_id` is given for a server request.
        """
        exchange = self._choose_exchange()
        if exchange is not None:
            exchange.event([message])
            return
        self.backlog.append((message, request_id))
        self.backlog_bytes += len(message)
        limits = self.context.limits
        while len(self.backlog) > limits.session_backlog or self.backlog_bytes > limits.stream_bytes:
            _, dropped = self._pop_backlog()
            if dropped is None:
                self.context.metrics.count("dropped_notifications")
            else:
                self.request_dropped(dropped)

    def _pop_backlog(self) -> tuple[bytes, codec.Id | None]:
        message, request_id = self.backlog.popleft()
        self.backlog_bytes -= len(message)
        return message, request_id

    def _choose_exchange(self) -> Exchange | None:
        exchanges = self.open_exchanges()
        if len(exchanges) == 1:
            return exchanges[0]
        for stream in reversed(self.streams):
            if stream.exchange.live:
                return stream.exchange
        return exchanges[0] if exchanges else None

    def close(self) -> None:
        """End the session's streams and calls, and release what it used."""
        self.close_streams()

    def close_streams(self) -> None:
        """End the GET streams."""
        streams, self.streams = self.streams, []
        for stream in streams:
            stream.exchange.responder = None
            stream.exchange.end()
