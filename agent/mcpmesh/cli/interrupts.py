"""Ctrl-C, SIGTERM and a closed terminal while a mesh is in the foreground.

The first asks to take the mesh down, the second says what that waits for,
the third leaves at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mcpmesh.cli import exits

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """`with` it inside a running loop; `asked` is set by the first signal."""

    def __init__(self, again: Callable[[], None], leaving: Callable[[], None]) -> None:
        self.asked = asyncio.Event()
        self._again = again
        self._leaving = leaving
        self._count = 0

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._signalled)
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _signalled(self) -> None:
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
            os._exit(exits.INTERRUPTED)
