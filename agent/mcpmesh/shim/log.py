"""The shim's own lines in the instance's log. They begin with "mcpmesh-shim: ", so the server's lines differ."""

from __future__ import annotations

import contextlib
import os


def log(message: str, *values: object) -> None:
    """Write one line to stderr; a closed stderr does not stop the shim."""
    line = f"mcpmesh-shim: {message % values if values else message}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode("utf-8", "replace"))
