"""HTTP/1.1 on asyncio's protocols: requests in, JSON or event streams out.

One request at a time per connection; what a client sends ahead waits. A head
that repeats one of the connection's last ones, but for a few values, is not
parsed again, which is the usual case on a kept connection. Reading goes on
while a call runs, since that is how a disconnect is seen. The answer to a HEAD
is the head alone (RFC 9110, 9.3.2): more would be read as the next answer's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from mcpmesh.shim.errors import header_lines, unavailable
from mcpmesh.shim.http.exchange import Exchange, Source
from mcpmesh.shim.http.head import BadHead, ChunkedBody, Head, Known, parse
from mcpmesh.shim.jsonrpc.codec import Buffer, error_pieces

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

REASONS: Final = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    406: b"Not Acceptable",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}
# Below this an answer is joined into one buffer; above, its pieces are handed on uncopied.
JOIN_BYTES: Final = 16 * 1024
# A client may send its next request ahead; more than this is not read before its turn.
AHEAD_BYTES: Final = 256 * 1024
# A session comes with three: to open it, in it, to end it; a stream of its own is on another connection.
KNOWN_HEADS: Final = 4


class Connection(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_ahead",
        "_body",
        "_buffer",
        "_chunked",
        "_counted",
        "_have",
        "_head",
        "_held",
        "_known",
        "_paused",
        "app",
        "exchange",
        "since",
        "transport",
    )

    def __init__(self, app: App) -> None:
        self.app = app
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.since = 0.0
        self._buffer = b""
        self._head: Head | None = None
        self._body: list[bytes] = []
        self._have = 0
        self._chunked: ChunkedBody | None = None
        self._counted = 0
        self.exchange: Exchange | None = None
        self._ahead = b""
        self._paused = False
        self._held: Source | None = None
        self._known: tuple[Known, ...] = ()

    @property
    def idle(self) -> bool:
        """Nothing of a request is here."""
        return self.exchange is None and self._head is None and not self._buffer

    @property
    def unsent_bytes(self) -> int:
        """What the client has not read yet."""
        return self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.app.connected(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self.app.disconnected(self)
        self._release()
        self.resume_writing()
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            exchange.closed()

    def pause_writing(self) -> None:
        if self.exchange is not None and self.exchange.owner is not None:
            self._held = self.exchange.owner.source
            if self._held is not None:
                self._held.hold(self)

    def resume_writing(self) -> None:
        if self._held is not None:
            self._held.let_go(self)
            self._held = None

    def data_received(self, data: bytes) -> None:
        if self.exchange is not None or self._ahead:
            self._ahead += data
            if len(self._ahead) > AHEAD_BYTES and not self._paused:
                self._paused = True
                self.transport.pause_reading()
            return
        if self._head is not None:
            self._more_body(data)
            return
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        for known in self._known:
            if end := known.end_in(data):
                head = known.head
                break
        else:
            found = data.find(b"\r\n\r\n")
            end = found + 4
            if (end if found >= 0 else len(data)) > self.app.limits.header_bytes:
                self._reject(431, f"the head is longer than {self.app.limits.header_bytes} bytes (limits.header_bytes)")
                return
            if found < 0:
                self._buffer = data
                self.since = self.app.now()
                return
            try:
                head, chunked = parse(data[:end], self.app.rules)
            except BadHead as error:
                self._reject(error.status, str(error))
                return
            if head.chunked:
                self._begin_chunked(head, chunked, data[end:])
                return
            self._known = (Known(head, data[:end]), *self._known[: KNOWN_HEADS - 1])
        length = head.length
        have = len(data) - end
        if have == length:
            self._request(head, data[end:])
        elif length > self.app.limits.body_bytes:
            self._too_long()
        elif have > length:
            self._ahead = data[end + length :]
            self._request(head, data[end : end + length])
        else:
            self.since = self.app.now()
            self._head, self._body, self._have = head, [data[end:]], have
            if self._take(have) and head.expects:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _begin_chunked(self, head: Head, chunked: ChunkedBody, rest: bytes) -> None:
        self.since = self.app.now()
        self._head, self._chunked = head, chunked
        if head.expects:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # After a chunked body the connection is closed: what follows it can't be told apart from it here.
        head.keep_alive = False
        self._more_body(rest)

    def _more_body(self, data: bytes) -> None:
        head = self._head
        assert head is not None
        if (chunked := self._chunked) is not None:
            self.since = self.app.now()
            before = chunked.size
            try:
                chunked.feed(data)
            except BadHead as error:
                self._reject(error.status, str(error))
                return
            if chunked.size > self.app.limits.body_bytes:
                self._too_long()
            elif chunked.ended:
                self._head = self._chunked = None
                self._request(head, chunked.take())
            else:
                self._take(chunked.size - before)
            return
        self.since = self.app.now()
        self._have += len(data)
        self._body.append(data)
        if self._have < head.length:
            self._take(len(data))
            return
        body, self._body, self._head = b"".join(self._body), [], None
        if self._have > head.length:
            self._ahead = body[head.length :]
            body = body[: head.length]
        self._request(head, body)

    def _take(self, size: int) -> bool:
        """Count bytes of a body that is still coming in; refuses the request when all connections have too many."""
        self._counted += size
        self.app.incoming += size
        if self.app.incoming <= self.app.limits.incoming_bytes:
            return True
        told = f"cannot take the request: {self.app.incoming} bytes of unfinished requests are here already"
        failure = unavailable(f"{told} (limits.incoming_bytes)", "busy")
        self.app.metrics.status(failure.status)
        self._close_with(
            failure.status, b"".join(map(bytes, error_pieces(b"null", failure.body))), header_lines(failure)
        )
        return False

    def _release(self) -> None:
        self.app.incoming -= self._counted
        self._counted = 0

    def _request(self, head: Head, body: bytes) -> None:
        if self._counted:
            self._release()
        exchange = Exchange(self, head, self.app.now())
        self.exchange = exchange
        if len(body) > self.app.limits.body_bytes:
            self._too_long()
        elif head.wrong is not None:
            self._reject(*head.wrong)
        else:
            self.app.handle(exchange, head, body)

    def _too_long(self) -> None:
        self._reject(413, f"the body is longer than {self.app.limits.body_bytes} bytes (limits.body_bytes)")

    def _reject(self, status: int, message: str) -> None:
        """Answer what is not worth parsing further, and close: its end can't be trusted."""
        self._close_with(status, self.app.rejection(status, message))

    def _close_with(self, status: int, body: bytes, extra: bytes = b"") -> None:
        head = self._head if self.exchange is None else self.exchange.head
        self.exchange = None
        self._head = self._chunked = None
        self._body = []
        self._release()
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n%b"
            % (status, REASONS[status], len(body), extra, b"" if head is not None and head.method == b"HEAD" else body)
        )
        self.transport.close()

    # Answers.

    def reply(self, head: Head, status: int, pieces: list[Buffer], media: bytes, extra: bytes) -> None:
        """A whole answer, and the connection is ready for the next request."""
        size = 0
        for piece in pieces:
            size += memoryview(piece).nbytes
        # A client that is not told would send its next request just when the connection is closed, and lose it.
        closing = b"" if head.keep_alive and not self.app.draining else b"connection: close\r\n"
        if status == 202 and not size:
            start = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n%b%b\r\n" % (closing, extra)
        else:
            start = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n" % (
                status,
                REASONS[status],
                media,
                size,
                closing,
                extra,
            )
        if head.method == b"HEAD":
            self.transport.write(start)
        elif size < JOIN_BYTES:
            self.transport.write(b"".join((start, *pieces)))
        else:
            self.transport.writelines([start, *pieces])
        self._done(head)

    def begin_stream(self, head: Head, extra: bytes) -> None:
        """The head of an event stream."""
        framing = b"connection: close\r\n" if head.http10 else b"transfer-encoding: chunked\r\n"
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache, no-transform\r\n"
            b"x-accel-buffering: no\r\n%b%b\r\n" % (framing, extra)
        )

    def chunk(self, pieces: list[Buffer]) -> None:
        """A part of an event stream. A client that doesn't read is cut off, not waited for."""
        exchange = self.exchange
        if exchange is None or self.transport.is_closing():
            return
        if self.unsent_bytes > self.app.limits.stream_bytes:
            self.app.metrics.count("slow_clients")
            self.transport.abort()
            return
        if exchange.head.http10:
            self.transport.writelines(pieces)
            return
        size = sum(memoryview(piece).nbytes for piece in pieces)
        self.transport.writelines([b"%x\r\n" % size, *pieces, b"\r\n"])

    def end_stream(self, head: Head) -> None:
        """The end of an event stream."""
        if head.http10:
            head.keep_alive = False
        else:
            self.transport.write(b"0\r\n\r\n")
        self._done(head)

    def _done(self, head: Head) -> None:
        self.exchange = None
        if not head.keep_alive or self.app.draining:
            self.transport.close()
            return
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        if self._ahead:
            # Not from here: the stack would grow with each request sent ahead.
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        ahead, self._ahead = self._ahead, b""
        if not self.transport.is_closing():
            self.data_received(ahead)
