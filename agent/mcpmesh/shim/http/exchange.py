"""One HTTP request and its answer, as the code that answers it sees them."""

from __future__ import annotations

from typing import Final, Protocol

from mcpmesh.shim.errors import Failure, header_lines
from mcpmesh.shim.http.request_head import Head
from mcpmesh.shim.jsonrpc.codec import Buffer, error_pieces

JSON: Final = b"application/json"


class PausableSource(Protocol):
    """Something whose output can be held back while a client does not read."""

    def pause_for(self, reader: object) -> None: ...
    def resume_for(self, reader: object) -> None: ...


class Responder:
    """Answers an exchange. It is told when the client leaves and when the time for the answer is over."""

    __slots__ = ()
    timeout_setting = "request_seconds"
    """The setting that bounds the time until the answer."""
    is_call = False
    """Whether an answer is due, so that a drain waits for it; False for streams without an end."""

    @property
    def source(self) -> PausableSource | None:
        """The source whose output goes to this client alone. It is paused while the client does not read."""
        return None

    def client_gone(self) -> None:
        """The client closed its connection before the answer was complete."""

    def expired(self) -> None:
        """The time for an answer is over."""


class Wire(Protocol):
    """The connection below an exchange: it writes what the exchange decides."""

    def reply(self, head: Head, status: int, pieces: list[Buffer], media: bytes, extra: bytes) -> None: ...
    def begin_stream(self, head: Head, extra: bytes) -> None: ...
    def chunk(self, pieces: list[Buffer]) -> float: ...
    def end_stream(self, head: Head) -> None: ...
    def count_status(self, status: int) -> None: ...


class Exchange:
    """One request and its answer: either one JSON body or an event stream of any length.

    When it ends it drops its responder: the two refer to each other, and a reference cycle would stay in memory, with
    everything it holds, until the garbage collector runs.
    """

    __slots__ = ("conn", "extra_headers", "head", "last_write", "live", "responder", "started", "streaming")

    def __init__(self, conn: Wire, head: Head, started: float) -> None:
        self.conn = conn
        self.head = head
        self.started = started
        self.last_write = started
        self.live = True
        """The client is there and its answer is not complete."""
        self.streaming = False
        self.responder: Responder | None = None
        self.extra_headers = b""

    def reply(self, status: int, pieces: list[Buffer], media: bytes = JSON, extra: bytes = b"") -> None:
        """Send the whole answer. `extra` are header lines, each with its line break, besides `extra_headers`."""
        if not self.live:
            return
        self.live = False
        self.conn.reply(self.head, status, pieces, media, self.extra_headers + extra)
        self.responder = None

    def open_stream(self) -> None:
        """Begin an event stream."""
        if self.live and not self.streaming:
            self.streaming = True
            self.conn.begin_stream(self.head, self.extra_headers)

    def event(self, pieces: list[Buffer]) -> None:
        """Send one message on the stream; the first one opens it."""
        if not self.live:
            return
        if not self.streaming:
            self.open_stream()
        data = b"".join(pieces)
        if b"\r" in data:  # legal between JSON tokens, but ends a line of the stream
            data = data.replace(b"\r", b" ")
        self.last_write = self.conn.chunk([b"event: message\r\ndata: ", data, b"\r\n\r\n"])

    def comment(self) -> None:
        """Send a keep-alive comment."""
        if self.live:
            if not self.streaming:
                self.open_stream()
            self.last_write = self.conn.chunk([b": keep-alive\r\n\r\n"])

    def end(self) -> None:
        """End the stream."""
        if self.live:
            self.live = False
            self.conn.end_stream(self.head)
            self.responder = None

    def closed(self) -> None:
        """The client closed its connection."""
        if self.live:
            self.live = False
            responder, self.responder = self.responder, None
            if responder is not None:
                responder.client_gone()


def reply_failure(exchange: Exchange, id: bytes, failure: Failure) -> None:
    """Answer a request that the shim itself fails; `id` is JSON."""
    pieces = error_pieces(id, failure.body)
    if exchange.streaming:
        exchange.event(pieces)
        exchange.end()
        return
    exchange.conn.count_status(failure.status)
    exchange.reply(failure.status, pieces, extra=header_lines(failure))
