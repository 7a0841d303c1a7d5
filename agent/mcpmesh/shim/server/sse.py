"""Server-sent events from a stream of bytes: each event is bounded, their number is not.

Each byte is read once, however the stream is cut into chunks
(https://html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.5 and 9.2.6).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from mcpmesh.shim.jsonrpc.framing import END_BYTES


@dataclass(frozen=True, slots=True)
class OversizeEvent:
    """Stands for a message over the limit: its first bytes, and the number of bytes counted so far."""

    head: bytes
    size: int


async def read_events(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes | OversizeEvent]:
    """The data of each event, as one line; of an event longer than `limit` only the beginning."""
    event = _Event(limit)
    ended_with_cr = False
    async for chunk in chunks:
        if not chunk:
            continue
        # The two bytes of a line break may come in two chunks.
        rest = chunk[1:] if ended_with_cr and chunk.startswith(b"\n") else chunk
        ended_with_cr = chunk.endswith(b"\r")
        for piece in rest.splitlines(keepends=True):
            text = piece.rstrip(b"\r\n")
            event.add(text)
            if len(text) < len(piece) and (found := event.line_ended()) is not None:
                yield found
    if event.oversize_head is not None:
        yield OversizeEvent(event.oversize_head, event.size)


class _Event:
    """The event that is arriving."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._begin()

    def _begin(self) -> None:
        self.data: list[bytes] = []
        self.line: list[bytes] = []
        self.line_size = 0
        self.size = 0
        self.oversize_head: bytes | None = None

    def add(self, text: bytes) -> None:
        """Take more of the line that is arriving."""
        self.line_size += len(text)
        self.size += len(text)
        if self.oversize_head is not None:
            return
        self.line.append(text)
        if self.size > self.limit:
            self.oversize_head = b" ".join((*self.data, _value(b"".join(self.line))))[:END_BYTES]
            self.data.clear()
            self.line.clear()

    def line_ended(self) -> bytes | OversizeEvent | None:
        """The event, if this line ends it."""
        ends = self.line_size == 0
        self.line_size = 0
        if not ends:
            if self.oversize_head is None:
                line = b"".join(self.line)
                self.line.clear()
                if line.startswith(b"data:"):
                    self.data.append(_value(line))
                else:
                    self.size -= len(line)
            return None
        # Between JSON tokens a blank replaces the line break.
        event: bytes | OversizeEvent = b" ".join(self.data)
        if self.oversize_head is not None:
            event = OversizeEvent(self.oversize_head, self.size)
        self._begin()
        return event or None


def _value(line: bytes) -> bytes:
    return line.removeprefix(b"data:").removeprefix(b" ")
