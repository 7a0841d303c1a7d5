"""Server-sent events out of a stream of bytes, with a bound on one event and none on their number.

Each byte is looked at once, however the stream is cut into chunks
(https://html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.5 and 9.2.6).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from mcpmesh.shim.jsonrpc.framing import KEPT_BYTES


@dataclass(frozen=True, slots=True)
class TooLong:
    """In place of a message over the limit: how it begins, and its bytes, as far as they were counted."""

    head: bytes
    size: int


async def events(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes | TooLong]:
    """The data of each event, in one line; only the beginning is kept of one that is longer than `limit`."""
    event = _Event(limit)
    returned = False
    async for chunk in chunks:
        if not chunk:
            continue
        # A line break of two bytes may come in two chunks.
        rest = chunk[1:] if returned and chunk.startswith(b"\n") else chunk
        returned = chunk.endswith(b"\r")
        for piece in rest.splitlines(keepends=True):
            text = piece.rstrip(b"\r\n")
            event.add(text)
            if len(text) < len(piece) and (found := event.line_ended()) is not None:
                yield found
    if event.over is not None:
        yield TooLong(event.over, event.size)


class _Event:
    """The event that is coming in."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._begin()

    def _begin(self) -> None:
        self.data: list[bytes] = []
        self.line: list[bytes] = []
        self.line_size = 0
        self.size = 0
        self.over: bytes | None = None

    def add(self, text: bytes) -> None:
        """More of the line that is coming in."""
        self.line_size += len(text)
        self.size += len(text)
        if self.over is not None:
            return
        self.line.append(text)
        if self.size > self.limit:
            self.over = b" ".join((*self.data, _value(b"".join(self.line))))[:KEPT_BYTES]
            self.data.clear()
            self.line.clear()

    def line_ended(self) -> bytes | TooLong | None:
        """What came, when this line ends the event."""
        ends = self.line_size == 0
        self.line_size = 0
        if not ends:
            if self.over is None:
                line = b"".join(self.line)
                self.line.clear()
                if line.startswith(b"data:"):
                    self.data.append(_value(line))
                else:
                    self.size -= len(line)
            return None
        # Between the tokens of JSON a blank is as good as the line break that stands for.
        found = TooLong(self.over, self.size) if self.over is not None else b" ".join(self.data)
        self._begin()
        return found or None


def _value(line: bytes) -> bytes:
    return line.removeprefix(b"data:").removeprefix(b" ")
