"""Split a byte stream into lines: each line is bounded, their number is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# An unfinished line of this length counts as long.
LONG_BYTES: Final = 64 * 1024
# Of a line over the limit this much is kept of either end, to find the id of the call that it answers.
END_BYTES: Final = 4096


class LineSplitter:
    """Splits a stream into lines.

    `on_line` gets each line without its line break, `on_oversize` both ends and the length of a line over the limit,
    `on_rest` the unfinished line when the stream ends. `on_long` is called once, while the first long line arrives.
    """

    __slots__ = (
        "_chunks",
        "_dropped",
        "_head",
        "_size",
        "_tail",
        "limit",
        "on_line",
        "on_long",
        "on_oversize",
        "on_rest",
    )

    def __init__(
        self,
        limit: int,
        on_line: Callable[[bytes], None],
        on_oversize: Callable[[bytes, bytes, int], None],
        on_rest: Callable[[bytes], None],
        on_long: Callable[[], None] | None = None,
    ) -> None:
        self.limit = limit
        self.on_line = on_line
        self.on_oversize = on_oversize
        self.on_rest = on_rest
        self.on_long = on_long
        self._chunks: list[bytes] = []
        self._size = 0
        self._dropped = 0
        self._head = b""
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self._size == 0:
            # The usual case: a chunk of whole lines.
            if data.endswith(b"\n"):
                if data.count(b"\n") == 1:
                    self._emit_whole(data[:-1])
                    return
                for line in data[:-1].split(b"\n"):
                    self._emit_whole(line)
                return
        elif b"\n" not in data:
            self._append(data)
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            if self._size:
                self._append(line)
                self._emit_collected(self.on_line)
            else:
                self._emit_whole(line)
        if rest:
            self._append(rest)

    def end(self) -> None:
        """The stream ended."""
        if self._size:
            self._emit_collected(self.on_rest)

    def _emit_whole(self, line: bytes) -> None:
        if len(line) > self.limit:
            self.on_oversize(line[:END_BYTES], line[-END_BYTES:], len(line))
        else:
            self.on_line(line)

    def _append(self, data: bytes) -> None:
        self._size += len(data)
        if self._size >= LONG_BYTES and self.on_long is not None:
            on_long, self.on_long = self.on_long, None
            on_long()
        if self._dropped:
            self._dropped += len(data)
            self._tail = (self._tail + data)[-END_BYTES:]
            return
        self._chunks.append(data)
        if self._size > self.limit:
            whole = b"".join(self._chunks)
            self._chunks.clear()
            self._head, self._tail, self._dropped = whole[:END_BYTES], whole[-END_BYTES:], self._size

    def _emit_collected(self, on_line: Callable[[bytes], None]) -> None:
        if self._dropped:
            head, tail, size = self._head, self._tail, self._size
            self._head = self._tail = b""
            self._dropped = self._size = 0
            self.on_oversize(head, tail, size)
            return
        line = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        on_line(line)
