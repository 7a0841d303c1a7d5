"""What a program said last."""

from __future__ import annotations

from pathlib import Path

# Whoever dies with more to say than this has said it before.
_BYTES = 4096
NONE = "(none)"


def last_line(log: Path) -> str:
    """The last line in `log` that is not blank; "(none)" without one."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _BYTES))
            return last_of(file.read())
    except OSError:
        return NONE


def last_of(said: bytes) -> str:
    """The same, of what was read already."""
    lines = said.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), NONE)
