"""Ctrl-C, SIGTERM and a closed terminal while a mesh is in the foreground.

The first asks to take the mesh down, the second says what that waits for,
the third leaves at once.
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

# What writing to a pipe or a terminal fails with once nobody is at the other end.
_NOBODY = (errno.EPIPE, errno.EIO)


def nobody_listens(error: BaseException | None) -> bool:
    """Whether that is why writing failed."""
    return isinstance(error, OSError) and error.errno in _NOBODY


def mute(*, terminals_only: bool = False) -> None:
    """Sends further output nowhere: there is work to be done still, and nobody to tell of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        # A terminal that was closed no longer says that it is one, but it is a device still.
        if not terminals_only or stat.S_ISCHR(os.fstat(stream).st_mode):
            os.dup2(nowhere, stream)
    os.close(nowhere)


class Interrupts:
    """`with` it inside a running loop; `asked` is set by the first signal."""

    def __init__(self, again: Callable[[], None], leaving: Callable[[], None]) -> None:
        self.asked = asyncio.Event()
        self._again = again
        self._leaving = leaving
        self._count = 0

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._signalled, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _signalled(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            mute(terminals_only=True)
        self._count += 1
        if self._count == 1:
            self.asked.set()
        elif self._count == 2:
            self._again()
        else:
            self._leaving()
            sys.stdout.flush()
            sys.stderr.flush()
            # A thread may be at work that would be waited for otherwise.
            os._exit(exit_codes.INTERRUPTED)
