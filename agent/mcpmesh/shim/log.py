"""The shim's own lines in the instance's log, told apart from the server's by their beginning."""

from __future__ import annotations

import contextlib
import os


def say(message: str, *words: object) -> None:
    """One line to stderr; a stderr that is gone is no reason to stop."""
    line = f"mcpmesh-shim: {message % words if words else message}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode("utf-8", "replace"))
