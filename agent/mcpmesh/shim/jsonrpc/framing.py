"""Bytes into lines, with a bound on a line and none on their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# Who has seen this much of a line, and no end, has a long one before it.
LONG_BYTES: Final = 64 * 1024
# Of a line that is too long this much is kept from either end, to find the id of the call that it answers.
KEPT_BYTES: Final = 4096


class Lines:
    """Splits a stream.

    `on_line` gets each line without its break, `on_oversize` the ends of one that was too long, `on_rest` what has no
    line break when the stream ends. `on_long` is called once, while the first long line comes.
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
        """The next bytes of the stream."""
        if self._size == 0:
            # The usual case: a chunk of whole lines.
            if data.endswith(b"\n"):
                if data.count(b"\n") == 1:
                    self._whole(data[:-1])
                    return
                for line in data[:-1].split(b"\n"):
                    self._whole(line)
                return
        elif b"\n" not in data:
            self._grow(data)
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            if self._size:
                self._grow(line)
                self._end(self.on_line)
            else:
                self._whole(line)
        if rest:
            self._grow(rest)

    def end(self) -> None:
        """The stream ended."""
        if self._size:
            self._end(self.on_rest)

    def _whole(self, line: bytes) -> None:
        if len(line) > self.limit:
            self.on_oversize(line[:KEPT_BYTES], line[-KEPT_BYTES:], len(line))
        else:
            self.on_line(line)

    def _grow(self, data: bytes) -> None:
        self._size += len(data)
        if self._size >= LONG_BYTES and self.on_long is not None:
            on_long, self.on_long = self.on_long, None
            on_long()
        if self._dropped:
            self._dropped += len(data)
            self._tail = (self._tail + data)[-KEPT_BYTES:]
            return
        self._chunks.append(data)
        if self._size > self.limit:
            whole = b"".join(self._chunks)
            self._chunks.clear()
            self._head, self._tail, self._dropped = whole[:KEPT_BYTES], whole[-KEPT_BYTES:], self._size

    def _end(self, on_line: Callable[[bytes], None]) -> None:
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
