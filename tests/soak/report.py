"""What a soak found, and whether it is within its bounds."""

from __future__ import annotations

from dataclasses import dataclass, field


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
