"""One server process: its three streams, its end, and how it is stopped.

Stopping goes in order: stdin is closed, then SIGTERM to the process group,
then SIGKILL to it and all its descendants; each step gets its time. Stderr goes
line by line to the shim's own stderr, and its last lines are kept to explain a
failure. `on_exit` is called exactly once, after the last line of stdout.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.jsonrpc.framing import Lines
from mcpmesh.shim.log import say
from mcpmesh.shim.server.guard_client import Guardian

TAIL_LINES: Final = 20
TAIL_CHARACTERS: Final = 500
STDERR_LINE_BYTES: Final = 1024 * 1024
# A long answer then takes fewer turns. Of this many bytes one user may have 128 pipes (pipe(7)), so only servers get
# one that have long answers.
WIDE_PIPE_BYTES: Final = 512 * 1024
# A dead server's stdout is read to its end; should something hold it open, this long (seconds).
DRAIN_SECONDS: Final = 2.0
BUG: Final = "a bug in what takes a server's line, please report it: %s"


@dataclass(frozen=True, slots=True)
class Exit:
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
    def of(cls, status: int) -> Exit:
        """From a wait status."""
        if os.WIFSIGNALED(status):
            return cls(signal=os.WTERMSIG(status))
        return cls(code=os.WEXITSTATUS(status))


class Tail:
    """The last lines of a server's stderr and of the rubbish on its stdout."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=TAIL_LINES)

    def add(self, line: bytes) -> None:
        if line.strip():
            self.lines.append(line[: 4 * TAIL_CHARACTERS].decode("utf-8", "replace").rstrip()[:TAIL_CHARACTERS])


class _Reader(asyncio.Protocol):
    def __init__(self, lines: Lines, on_end: Callable[[], None]) -> None:
        self.lines = lines
        self.on_end = on_end
        self.data_received = lines.feed  # type: ignore[method-assign]

    def connection_lost(self, _error: Exception | None) -> None:
        self.lines.end()
        self.on_end()


class _Writer(asyncio.BaseProtocol):
    def connection_lost(self, _error: Exception | None) -> None:
        """The server closed its stdin; its end is told elsewhere."""


def pass_on(line: bytes) -> None:
    """One line of a server's stderr, verbatim, to our own."""
    with contextlib.suppress(OSError):
        os.write(2, line + b"\n")


def _pipes(number: int) -> list[tuple[int, int]]:
    """That many pipes, or none and an OSError."""
    pipes: list[tuple[int, int]] = []
    try:
        while len(pipes) < number:
            pipes.append(os.pipe())
    except OSError:
        for fd in itertools.chain(*pipes):
            os.close(fd)
        raise
    return pipes


def _widen(pipe: int) -> None:
    """More bytes at once, where this user may have them."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, WIDE_PIPE_BYTES)


class ServerProcess:
    """A running server. `write` a line to it; `on_line` is called for each of its lines."""

    def __init__(self, guardian: Guardian, line_bytes: int) -> None:
        self.guardian = guardian
        self.tail = Tail()
        self.pid = 0
        self.exit: Exit | None = None
        self.on_line: Callable[[bytes], None] = self.tail.add
        self.on_exit: Callable[[Exit], None] = lambda _: None
        self.on_oversize: Callable[[bytes, bytes, int], None] = lambda *_: None
        self.gone = asyncio.Event()
        self._line_bytes = line_bytes
        self._number = 0
        self._status: Exit | None = None
        self._stdout_ended = False
        self._stdin: asyncio.WriteTransport | None = None
        self._readers: list[asyncio.ReadTransport] = []
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start it; whether that worked is told by its lines or by `on_exit`. OSError when there are no pipes."""
        loop = asyncio.get_running_loop()
        (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = _pipes(3)
        stdin, _ = await loop.connect_write_pipe(_Writer, os.fdopen(ours_in, "wb", buffering=0))
        self._stdin = stdin
        # Not attributes: what refers to itself in a circle stays until the collector looks for it.
        out = Lines(self._line_bytes, self._line, self._oversize, self._rest, lambda: _widen(ours_out))
        err = Lines(
            STDERR_LINE_BYTES, self._error_line, lambda head, _tail, _size: self._error_line(head), self._error_line
        )
        for fd, lines, ended in ((ours_out, out, self._stdout_end), (ours_err, err, lambda: None)):
            reader, _ = await loop.connect_read_pipe(
                lambda lines=lines, ended=ended: _Reader(lines, ended),  # type: ignore[misc]
                os.fdopen(fd, "rb", buffering=0),
            )
            self._readers.append(reader)
        self._number = self.guardian.spawn(self, theirs_in, theirs_out, theirs_err)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that the server has not read yet."""
        return self._stdin.get_write_buffer_size() if self._stdin is not None else 0

    def write(self, line: bytes) -> None:
        """A line, with its break; after its end it is dropped."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(line)

    def pause(self) -> None:
        """Read no more of its lines for now."""
        if not self._stdout_ended:
            self._readers[0].pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self._stdout_ended:
            self._readers[0].resume_reading()

    async def stop(self, step_seconds: float) -> None:
        """Stop in order; returns when it is gone."""
        if self.gone.is_set():
            return
        if self._stdin is not None:
            self._stdin.close()
        for step in (None, self.terminate, self.kill):
            if step is not None:
                step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.gone.wait(), step_seconds)
                return
        await self.gone.wait()

    def terminate(self) -> None:
        """SIGTERM to its process group."""
        self.guardian.terminate(self._number)

    def kill(self) -> None:
        """SIGKILL to it and all its descendants."""
        self.guardian.kill(self._number)

    # Told by the guardian.

    def started(self, pid: int) -> None:
        self.pid = pid

    def not_started(self, error: OSError) -> None:
        self._stopped(Exit(error=f"could not be started ({error.strerror})", ran=False))

    def exited(self, status: int) -> None:
        self._stopped(Exit.of(status))

    def _stopped(self, exit: Exit) -> None:
        self._status = exit
        if self._stdout_ended:
            self._finish()
        else:
            self._timer = asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._finish)

    def _stdout_end(self) -> None:
        self._stdout_ended = True
        if self._status is not None:
            self._finish()
        elif self.exit is None:
            # A server that closed its stdout can't answer any more.
            self._timer = asyncio.get_running_loop().call_later(DRAIN_SECONDS, self.kill)

    def _finish(self) -> None:
        if self.exit is not None:
            return
        assert self._status is not None
        self.exit = self._status
        if self._timer is not None:
            self._timer.cancel()
        if self._stdin is not None:
            self._stdin.abort()
        for reader in self._readers:
            reader.close()
        self.gone.set()
        self.on_exit(self.exit)
        # Whoever listened refers to this process: let go, so that both are freed at once.
        self.on_line = self.tail.add
        self.on_exit = lambda _: None
        self.on_oversize = lambda *_: None

    def _line(self, line: bytes) -> None:
        try:
            self.on_line(line)
        except Exception:
            # It would close the server's stdout, and so end everybody's server for the sake of one line.
            say(BUG, traceback.format_exc())

    def _rest(self, line: bytes) -> None:
        """Without its line break it may be half of an answer, whose caller is told of the server's end instead."""
        try:
            codec.parse(line)
        except codec.Malformed:
            self._error_line(b"cut off: " + line[:500])
        else:
            self._line(line)

    def _oversize(self, head: bytes, tail: bytes, size: int) -> None:
        try:
            self.on_oversize(head, tail, size)
        except Exception:
            say(BUG, traceback.format_exc())

    def _error_line(self, line: bytes) -> None:
        self.tail.add(line)
        pass_on(line)
