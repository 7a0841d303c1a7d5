"""A legacy session: its id, its GET streams, and what is kept until one is open.

How requests reach a server is the subclasses' matter: `own` has a process per
session, `shared` goes over one that is kept for everybody.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from mcpmesh.shim.http.exchange import Exchange, Owner, Source
from mcpmesh.shim.jsonrpc import codec

if TYPE_CHECKING:
    from mcpmesh.shim.app import App
    from mcpmesh.shim.calls.client_call import RelayCall

# How long (seconds) a server may still answer a call that its client cancelled.
CANCEL_SECONDS = 5.0
# A client that never answers must not fill the memory: of more questions than this the oldest is refused.
MAX_ASKED = 256
TOO_MANY_ASKED = f"its client does not answer, and {MAX_ASKED} newer requests wait for it"
NOT_TOLD = "its client does not listen, and too much waits for it"


class Stream(Owner):
    """A session's GET stream."""

    def __init__(self, session: Session, exchange: Exchange) -> None:
        self.session = session
        self.exchange = exchange
        exchange.owner = self

    @property
    def source(self) -> Source | None:
        return self.session.source

    def gone(self) -> None:
        self.session.stream_gone(self)


class Session:
    """One client of the older protocol."""

    def __init__(self, app: App, id: str) -> None:
        self.app = app
        self.id = id
        self.version = ""
        self.used = app.now()
        self.streams: list[Stream] = []
        # Each with the id by which its answer would come, where it is a question.
        self.backlog: deque[tuple[bytes, codec.Id | None]] = deque()
        self.backlog_bytes = 0

    @property
    def busy(self) -> bool:
        """A client is connected that waits for an answer or listens."""
        return bool(self.streams)

    @property
    def source(self) -> Source | None:
        """The process whose output only this session gets, if there is one."""
        return None

    def request(self, exchange: Exchange, message: Any) -> None:
        """A request; its answer goes to the exchange. Raises Failure when it was not sent."""
        raise NotImplementedError

    def notification(self, message: Any) -> None:
        """A notification of the client's."""
        raise NotImplementedError

    def response(self, message: Any) -> None:
        """The client's answer to a request of the server's."""
        raise NotImplementedError

    def exchanges(self) -> list[Exchange]:
        """Where answers of the session's calls are awaited, oldest first."""
        raise NotImplementedError

    def left_behind(self) -> list[RelayCall]:
        """Its calls whose client is gone and that may wait for it rather than for a server."""
        return []

    def listen(self, exchange: Exchange) -> None:
        """The client's GET: a stream for what belongs to no call, beginning with what was kept for it."""
        self.streams.append(Stream(self, exchange))
        exchange.open_stream()
        exchange.comment()
        while self.backlog and exchange.live:
            exchange.event([self._oldest()[0]])

    def stream_gone(self, stream: Stream) -> None:
        """The client closed it."""
        self.used = self.app.now()
        if stream in self.streams:
            self.streams.remove(stream)

    def unasked(self, id: codec.Id) -> None:
        """A question that no client will see any more."""
        raise NotImplementedError

    def tell(self, message: bytes, asks: codec.Id | None = None) -> None:
        """A message of the server's own: on the one call that runs, else on the GET stream, else kept."""
        exchange = self._stream()
        if exchange is not None:
            exchange.event([message])
            return
        self.backlog.append((message, asks))
        self.backlog_bytes += len(message)
        limits = self.app.limits
        while len(self.backlog) > limits.session_backlog or self.backlog_bytes > limits.stream_bytes:
            _, dropped = self._oldest()
            if dropped is None:
                self.app.metrics.count("dropped_notifications")
            else:
                self.unasked(dropped)

    def _oldest(self) -> tuple[bytes, codec.Id | None]:
        message, asks = self.backlog.popleft()
        self.backlog_bytes -= len(message)
        return message, asks

    def _stream(self) -> Exchange | None:
        calls = self.exchanges()
        if len(calls) == 1:
            return calls[0]
        for stream in reversed(self.streams):
            if stream.exchange.live:
                return stream.exchange
        return calls[0] if calls else None

    def close(self) -> None:
        """End its streams and its calls, and let go of what it used."""
        self.close_streams()

    def close_streams(self) -> None:
        """End its GET streams."""
        streams, self.streams = self.streams, []
        for stream in streams:
            stream.exchange.owner = None
            stream.exchange.end()
