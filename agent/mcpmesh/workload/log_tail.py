"""The last line of a log."""

from __future__ import annotations

from pathlib import Path

# The last line is looked for in the last 4 KiB; a longer one is cut.
_BYTES = 4096
NONE = "(none)"


def last_line(log: Path) -> str:
    """The last line in `log` that is not blank; "(none)" without one."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _BYTES))
            return last_line_of(file.read())
    except OSError:
        return NONE


def last_line_of(output: bytes) -> str:
    """The last line in `output` that is not blank; "(none)" without one."""
    lines = output.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), NONE)
