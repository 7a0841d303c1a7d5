"""What a soak found, and whether it is within its bounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# What a shim says of a bug of its own; what asyncio and uvloop say of an exception that nobody caught.
BUGS = ("a bug in", "Exception in callback", "Traceback", "never retrieved")


@dataclass
class Report:
    """What is said goes to stdout; `broken` names the bounds that do not hold."""

    broken: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """A line, shown at once: a soak takes minutes."""
        print(f"  {line}", flush=True)

    def bound(self, what: str, seen: float, most: float, unit: str = "") -> None:
        """What was counted, and the most that it may be."""
        fine = seen <= most
        self.say(f"{'ok    ' if fine else 'BROKEN'}  {what}: {seen:.4g}{unit} (at most {most:g}{unit})")
        if not fine:
            self.broken.append(what)

    def bugs(self, lines: Iterable[str]) -> None:
        """What a shim wrote to its stderr; the lines that tell of a bug are shown."""
        found = [line for line in lines if any(words in line for words in BUGS)]
        for line in found[:3]:
            self.say(f"  BUG: {line}")
        self.bound("lines of stderr that tell of a bug", len(found), 0)
