"""HTTP/1.1 on asyncio's protocols: requests in, JSON or event streams out.

A connection serves one request at a time; a request sent ahead waits. A head
that repeats one of the connection's last heads, except for a few values, is not
parsed again; on a kept connection this is the usual case. The connection keeps
reading while a call runs, since a disconnect is only seen by reading. The
answer to a HEAD is the head alone (RFC 9110, 9.3.2): a body would be read as
the next answer.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from mcpmesh.shim.errors import header_lines, unavailable
from mcpmesh.shim.http.connection_set import Connections
from mcpmesh.shim.http.exchange import Exchange, PausableSource
from mcpmesh.shim.http.request_head import BadRequest, ChunkedBody, Head, HeadTemplate, parse
from mcpmesh.shim.jsonrpc.codec import Buffer, error_pieces

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
# A shorter answer is joined into one buffer; the pieces of a longer one are written without a copy.
JOIN_BYTES: Final = 16 * 1024
# A client may send its next request ahead; beyond this the connection is not read until that request's turn.
AHEAD_BYTES: Final = 256 * 1024
# A session uses three heads: to open it, in it, to end it. Its stream is on another connection.
HEAD_TEMPLATES: Final = 4


class Connection(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_ahead",
        "_body",
        "_buffer",
        "_chunked",
        "_counted_bytes",
        "_have",
        "_head",
        "_paused_source",
        "_reading_paused",
        "_templates",
        "connections",
        "exchange",
        "transport",
        "waiting_since",
    )

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.waiting_since = 0.0
        """When the last part of an incomplete request arrived."""
        self._buffer = b""
        self._head: Head | None = None
        self._body: list[bytes] = []
        self._have = 0
        self._chunked: ChunkedBody | None = None
        self._counted_bytes = 0
        self.exchange: Exchange | None = None
        self._ahead = b""
        self._reading_paused = False
        self._paused_source: PausableSource | None = None
        self._templates: tuple[HeadTemplate, ...] = ()

    @property
    def idle(self) -> bool:
        return self.exchange is None and self._head is None and not self._buffer

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the client has not read yet."""
        return self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close at once; what was not sent is dropped."""
        self.transport.abort()

    def close(self) -> None:
        """Close after everything written has been sent."""
        self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self.connections.remove(self)
        self._uncount_body()
        self.resume_writing()
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            exchange.closed()

    def pause_writing(self) -> None:
        if self.exchange is not None and self.exchange.responder is not None:
            self._paused_source = self.exchange.responder.source
            if self._paused_source is not None:
                self._paused_source.pause_for(self)

    def resume_writing(self) -> None:
        if self._paused_source is not None:
            self._paused_source.resume_for(self)
            self._paused_source = None

    # Requests.

    def data_received(self, data: bytes) -> None:
        if self.exchange is not None or self._ahead:
            self._ahead += data
            if len(self._ahead) > AHEAD_BYTES and not self._reading_paused:
                self._reading_paused = True
                self.transport.pause_reading()
            return
        if self._head is not None:
            self._more_body(data)
            return
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        for template in self._templates:
            if end := template.end_in(data):
                head = template.head
                break
        else:
            connections = self.connections
            found = data.find(b"\r\n\r\n")
            end = found + 4
            if (end if found >= 0 else len(data)) > connections.header_bytes:
                self._reject(431, f"the head is longer than {connections.header_bytes} bytes (limits.header_bytes)")
                return
            if found < 0:
                self._buffer = data
                self.waiting_since = connections.now()
                return
            try:
                head, chunked = parse(data[:end], connections.rules)
            except BadRequest as error:
                self._reject(error.status, str(error))
                return
            if head.chunked:
                self._begin_chunked(head, chunked, data[end:])
                return
            self._templates = (HeadTemplate(head, data[:end]), *self._templates[: HEAD_TEMPLATES - 1])
        length = head.length
        have = len(data) - end
        if have == length:
            self._request(head, data[end:])
        elif length > self.connections.body_bytes:
            self._reject_long_body()
        elif have > length:
            self._ahead = data[end + length :]
            self._request(head, data[end : end + length])
        else:
            self.waiting_since = self.connections.now()
            self._head, self._body, self._have = head, [data[end:]], have
            if self._count_body(have) and head.expects_continue:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _begin_chunked(self, head: Head, chunked: ChunkedBody, rest: bytes) -> None:
        self.waiting_since = self.connections.now()
        self._head, self._chunked = head, chunked
        if head.expects_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The connection is closed after a chunked body: here its end can't be told from what follows it.
        head.keep_alive = False
        self._more_body(rest)

    def _more_body(self, data: bytes) -> None:
        head = self._head
        assert head is not None
        if (chunked := self._chunked) is not None:
            self._more_chunks(head, chunked, data)
            return
        self.waiting_since = self.connections.now()
        self._have += len(data)
        self._body.append(data)
        if self._have < head.length:
            self._count_body(len(data))
            return
        body, self._body, self._head = b"".join(self._body), [], None
        if self._have > head.length:
            self._ahead = body[head.length :]
            body = body[: head.length]
        self._request(head, body)

    def _more_chunks(self, head: Head, chunked: ChunkedBody, data: bytes) -> None:
        self.waiting_since = self.connections.now()
        before = chunked.size
        try:
            chunked.feed(data)
        except BadRequest as error:
            self._reject(error.status, str(error))
            return
        if chunked.size > self.connections.body_bytes:
            self._reject_long_body()
        elif chunked.ended:
            self._head = self._chunked = None
            self._request(head, chunked.take())
        else:
            self._count_body(chunked.size - before)

    def _count_body(self, size: int) -> bool:
        """Count bytes of an incomplete body; refuses the request, and returns False, when there are too many in all."""
        connections = self.connections
        self._counted_bytes += size
        connections.incoming_bytes += size
        if connections.incoming_bytes <= connections.max_incoming_bytes:
            return True
        failure = unavailable(
            f"cannot take the request: {connections.incoming_bytes} bytes of unfinished requests are here already "
            "(limits.incoming_bytes)",
            "busy",
        )
        connections.metrics.status(failure.status)
        self._close_with(
            failure.status, b"".join(map(bytes, error_pieces(b"null", failure.body))), header_lines(failure)
        )
        return False

    def _uncount_body(self) -> None:
        self.connections.incoming_bytes -= self._counted_bytes
        self._counted_bytes = 0

    def _request(self, head: Head, body: bytes) -> None:
        if self._counted_bytes:
            self._uncount_body()
        connections = self.connections
        exchange = Exchange(self, head, connections.now())
        self.exchange = exchange
        if len(body) > connections.body_bytes:
            self._reject_long_body()
        elif head.rejection is not None:
            self._reject(*head.rejection)
        else:
            connections.handle(exchange, head, body)

    def _reject_long_body(self) -> None:
        self._reject(413, f"the body is longer than {self.connections.body_bytes} bytes (limits.body_bytes)")

    def _reject(self, status: int, message: str) -> None:
        """Answer a request that is not parsed further, and close: where it ends is unknown."""
        self._close_with(status, self.connections.rejection_body(status, message))

    def _close_with(self, status: int, body: bytes, extra: bytes = b"") -> None:
        head = self._head if self.exchange is None else self.exchange.head
        self.exchange = None
        self._head = self._chunked = None
        self._body = []
        self._uncount_body()
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n%b"
            % (status, REASONS[status], len(body), extra, b"" if head is not None and head.method == b"HEAD" else body)
        )
        self.transport.close()

    # Answers.

    def count_status(self, status: int) -> None:
        """Count an answer of the shim's own."""
        self.connections.metrics.status(status)

    def reply(self, head: Head, status: int, pieces: list[Buffer], media: bytes, extra: bytes) -> None:
        """Send a whole answer; then the connection is ready for the next request."""
        size = 0
        for piece in pieces:
            size += memoryview(piece).nbytes
        # Without this header a client would send its next request while the connection is closed, and lose it.
        closing = b"" if head.keep_alive and not self.connections.context.draining else b"connection: close\r\n"
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
        self._finish(head)

    def begin_stream(self, head: Head, extra: bytes) -> None:
        """Send the head of an event stream."""
        framing = b"connection: close\r\n" if head.http10 else b"transfer-encoding: chunked\r\n"
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache, no-transform\r\n"
            b"x-accel-buffering: no\r\n%b%b\r\n" % (framing, extra)
        )

    def chunk(self, pieces: list[Buffer]) -> float:
        """Send a part of an event stream; returns the time. A client that doesn't read is cut off, not waited for."""
        connections = self.connections
        exchange = self.exchange
        if exchange is None or self.transport.is_closing():
            return connections.now()
        if self.unsent_bytes > connections.stream_bytes:
            connections.metrics.count("slow_clients")
            self.transport.abort()
        elif exchange.head.http10:
            self.transport.writelines(pieces)
        else:
            size = sum(memoryview(piece).nbytes for piece in pieces)
            self.transport.writelines([b"%x\r\n" % size, *pieces, b"\r\n"])
        return connections.now()

    def end_stream(self, head: Head) -> None:
        """End an event stream."""
        if head.http10:
            head.keep_alive = False
        else:
            self.transport.write(b"0\r\n\r\n")
        self._finish(head)

    def _finish(self, head: Head) -> None:
        self.exchange = None
        if not head.keep_alive or self.connections.context.draining:
            self.transport.close()
            return
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
        if self._ahead:
            # Not called directly: the stack would grow with each request sent ahead.
            asyncio.get_running_loop().call_soon(self._next_request)

    def _next_request(self) -> None:
        ahead, self._ahead = self._ahead, b""
        if not self.transport.is_closing():
            self.data_received(ahead)
