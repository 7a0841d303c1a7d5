"""The channel to one server: lines out, lines in, and its end. What implements it is below or elsewhere.

`StdioProcess` is a process of this machine, `RemoteHttpServer` a remote server
that behaves like one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

TAIL_LINES: Final = 20
TAIL_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class ServerExit:
    """How a server ended."""

    code: int | None = None
    signal: int | None = None
    error: str | None = None
    ran: bool = True

    def __str__(self) -> str:
        if self.error:
            return self.error
        if self.signal is not None:
            return f"was killed by signal {self.signal} ({signal.Signals(self.signal).name})"
        return f"exited with code {self.code}"

    @classmethod
    def from_wait_status(cls, status: int) -> ServerExit:
        """From a status as wait(2) returns it."""
        if os.WIFSIGNALED(status):
            return cls(signal=os.WTERMSIG(status))
        return cls(code=os.WEXITSTATUS(status))


class OutputTail:
    """The last lines of a server's stderr and of invalid lines on its stdout; they explain a failure."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=TAIL_LINES)

    def add(self, line: bytes) -> None:
        """Keep a line, shortened; a blank one is ignored."""
        if line.strip():
            self.lines.append(line[: 4 * TAIL_CHARACTERS].decode("utf-8", "replace").rstrip()[:TAIL_CHARACTERS])


class Channel(Protocol):
    """Lines to a server and from it.

    `on_line` is called for each line. `on_exit` is called exactly once, after the last line; then `exit` is set, and
    the event `exited` too. `on_oversize` gets both ends and the length of a line over the limit.
    """

    tail: OutputTail
    pid: int
    exit: ServerExit | None
    exited: asyncio.Event
    on_line: Callable[[bytes], None]
    on_exit: Callable[[ServerExit], None]
    on_oversize: Callable[[bytes, bytes, int], None]

    @property
    def waiting_bytes(self) -> int:
        """Bytes that the server has not read yet."""

    async def start(self) -> None:
        """Start it; success shows in its lines, a failure in `on_exit`. Raises OSError when there are no pipes."""

    def write(self, line: bytes) -> None:
        """Write a line with its line break; after the exit it is dropped."""

    def pause(self) -> None:
        """Stop reading its lines for now."""

    def resume(self) -> None:
        """Read its lines again."""

    def kill(self) -> None:
        """End it at once, with all its descendants."""

    async def stop(self, step_seconds: float) -> None:
        """Stop it in order; returns after its exit."""


def forward_stderr(line: bytes) -> None:
    """Write one line of a server's output to the shim's own stderr, unchanged."""
    with contextlib.suppress(OSError):
        os.write(2, line + b"\n")
