"""The results of a soak test, and whether they are within their bounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# The words of a shim about its own bugs, and of asyncio and uvloop about uncaught exceptions.
BUGS = ("a bug in", "Exception in callback", "Traceback", "never retrieved")


@dataclass
class Report:
    """Writes lines to stdout; `broken` names the bounds that do not hold."""

    broken: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Write a line at once, since a soak takes minutes."""
        print(f"  {line}", flush=True)

    def bound(self, what: str, seen: float, most: float, unit: str = "") -> None:
        """Check a count against its bound."""
        fine = seen <= most
        self.say(f"{'ok    ' if fine else 'BROKEN'}  {what}: {seen:.4g}{unit} (at most {most:g}{unit})")
        if not fine:
            self.broken.append(what)

    def bugs(self, lines: Iterable[str]) -> None:
        """Check the stderr of a shim; lines that report a bug are shown."""
        found = [line for line in lines if any(words in line for words in BUGS)]
        for line in found[:3]:
            self.say(f"  BUG: {line}")
        self.bound("lines of stderr that tell of a bug", len(found), 0)
