"""A server that is a process of this machine: its three streams, its exit, and how it is stopped.

It is stopped in steps, each with its time: its stdin is closed, then its
process group gets SIGTERM, then it and all its descendants get SIGKILL. Its
stderr goes line by line to the shim's own stderr, and the last lines are kept
to explain a failure. `on_exit` is called exactly once, after the last line of
stdout.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import traceback
from collections.abc import Callable
from typing import Final

from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.jsonrpc.framing import LineSplitter
from mcpmesh.shim.log import log
from mcpmesh.shim.server.channel import OutputTail, ServerExit, forward_stderr
from mcpmesh.shim.server.guard_client import GuardClient

STDERR_LINE_BYTES: Final = 1024 * 1024
# A wide pipe passes a long answer in fewer turns. One user may have 128 pipes of this size (pipe(7)), so only servers
# with long answers get one.
WIDE_PIPE_BYTES: Final = 512 * 1024
# After a server's exit its stdout is read to the end, but no longer than this (seconds): another process may hold it.
DRAIN_SECONDS: Final = 2.0
BUG: Final = "a bug in the handling of a server's line, please report it: %s"


class _Reader(asyncio.Protocol):
    def __init__(self, lines: LineSplitter, on_end: Callable[[], None]) -> None:
        self.lines = lines
        self.on_end = on_end
        self.data_received = lines.feed  # type: ignore[method-assign]

    def connection_lost(self, _error: Exception | None) -> None:
        self.lines.end()
        self.on_end()


class _Writer(asyncio.BaseProtocol):
    def connection_lost(self, _error: Exception | None) -> None:
        """The server closed its stdin; its exit is noticed elsewhere."""


def _open_pipes(number: int) -> list[tuple[int, int]]:
    """Open `number` pipes; at an OSError none stays open."""
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
    """Enlarge a pipe's buffer, unless this user has too many of them."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, WIDE_PIPE_BYTES)


class StdioProcess:
    """A channel to a process below the guard."""

    def __init__(self, guard: GuardClient, line_bytes: int) -> None:
        self.guard = guard
        self.tail = OutputTail()
        self.pid = 0
        self.exit: ServerExit | None = None
        self.on_line: Callable[[bytes], None] = self.tail.add
        self.on_exit: Callable[[ServerExit], None] = lambda _: None
        self.on_oversize: Callable[[bytes, bytes, int], None] = lambda *_: None
        self.exited = asyncio.Event()
        self._line_bytes = line_bytes
        self._number = 0
        self._reported_exit: ServerExit | None = None
        self._stdout_ended = False
        self._stdin: asyncio.WriteTransport | None = None
        self._readers: list[asyncio.ReadTransport] = []
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = _open_pipes(3)
        stdin, _ = await loop.connect_write_pipe(_Writer, os.fdopen(ours_in, "wb", buffering=0))
        self._stdin = stdin
        # Not attributes: a reference cycle would stay in memory until the garbage collector runs.
        out = LineSplitter(self._line_bytes, self._line, self._oversize, self._unfinished, lambda: _widen(ours_out))
        err = LineSplitter(
            STDERR_LINE_BYTES, self._error_line, lambda head, _tail, _size: self._error_line(head), self._error_line
        )
        for fd, lines, ended in ((ours_out, out, self._stdout_end), (ours_err, err, lambda: None)):
            reader, _ = await loop.connect_read_pipe(
                lambda lines=lines, ended=ended: _Reader(lines, ended),  # type: ignore[misc]
                os.fdopen(fd, "rb", buffering=0),
            )
            self._readers.append(reader)
        self._number = self.guard.spawn(self, theirs_in, theirs_out, theirs_err)

    @property
    def waiting_bytes(self) -> int:
        return self._stdin.get_write_buffer_size() if self._stdin is not None else 0

    def write(self, line: bytes) -> None:
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(line)

    def pause(self) -> None:
        if not self._stdout_ended:
            self._readers[0].pause_reading()

    def resume(self) -> None:
        if not self._stdout_ended:
            self._readers[0].resume_reading()

    async def stop(self, step_seconds: float) -> None:
        if self.exited.is_set():
            return
        if self._stdin is not None:
            self._stdin.close()
        for step in (None, self.terminate, self.kill):
            if step is not None:
                step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.exited.wait(), step_seconds)
                return
        await self.exited.wait()

    def terminate(self) -> None:
        """SIGTERM to its process group."""
        self.guard.terminate(self._number)

    def kill(self) -> None:
        self.guard.kill(self._number)

    # From the guard.

    def process_started(self, pid: int) -> None:
        self.pid = pid

    def start_failed(self, error: OSError) -> None:
        self._exit_reported(ServerExit(error=f"could not be started ({error.strerror})", ran=False))

    def process_exited(self, status: int) -> None:
        self._exit_reported(ServerExit.from_wait_status(status))

    def _exit_reported(self, exit: ServerExit) -> None:
        self._reported_exit = exit
        if self._stdout_ended:
            self._finish()
        else:
            self._timer = asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._finish)

    def _stdout_end(self) -> None:
        self._stdout_ended = True
        if self._reported_exit is not None:
            self._finish()
        elif self.exit is None:
            # A server that has closed its stdout can't answer any more.
            self._timer = asyncio.get_running_loop().call_later(DRAIN_SECONDS, self.kill)

    def _finish(self) -> None:
        if self.exit is not None:
            return
        assert self._reported_exit is not None
        self.exit = self._reported_exit
        if self._timer is not None:
            self._timer.cancel()
        if self._stdin is not None:
            self._stdin.abort()
        for reader in self._readers:
            reader.close()
        self.exited.set()
        self.on_exit(self.exit)
        # The listeners refer to this object: dropped, so that both are freed at once.
        self.on_line = self.tail.add
        self.on_exit = lambda _: None
        self.on_oversize = lambda *_: None

    def _line(self, line: bytes) -> None:
        try:
            self.on_line(line)
        except Exception:
            # The exception would close the server's stdout, and so end the server of all callers because of one line.
            log(BUG, traceback.format_exc())

    def _unfinished(self, line: bytes) -> None:
        """A last line without a line break; if it is half an answer, its call fails with the server's exit."""
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
            log(BUG, traceback.format_exc())

    def _error_line(self, line: bytes) -> None:
        self.tail.add(line)
        forward_stderr(line)
