"""Ctrl-C, SIGTERM and a closed terminal while `up` is in the foreground.

The first signal asks to take the mesh down, the second prints what that waits for, the third ends the command
at once.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import sys
from collections.abc import Callable
from typing import Self

from mcpmesh.cli import exit_codes

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Writing to a pipe fails with the first, to a terminal with the second, once the other end is closed.
_READER_GONE = (errno.EPIPE, errno.EIO)


def is_closed_output(error: BaseException | None) -> bool:
    """Whether `error` says that the reader of the output is gone."""
    return isinstance(error, OSError) and error.errno in _READER_GONE


def discard_output(*, terminals_only: bool = False) -> None:
    """Sends further output to /dev/null: work goes on, but nobody reads its output any more."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        # A closed terminal is no longer a tty for isatty(), but still a character device.
        if not terminals_only or stat.S_ISCHR(os.fstat(stream).st_mode):
            os.dup2(null, stream)
    os.close(null)


class Interrupts:
    """Handles the signals inside `with`, in a running event loop; the first signal sets `requested`."""

    def __init__(self, on_second: Callable[[], None], on_third: Callable[[], None]) -> None:
        self.requested = asyncio.Event()
        self._on_second = on_second
        self._on_third = on_third
        self._count = 0

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._handle, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _handle(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            discard_output(terminals_only=True)
        self._count += 1
        if self._count == 1:
            self.requested.set()
        elif self._count == 2:
            self._on_second()
        else:
            self._on_third()
            sys.stdout.flush()
            sys.stderr.flush()
            # An ordinary exit would wait for a thread that is still at work.
            os._exit(exit_codes.INTERRUPTED)
