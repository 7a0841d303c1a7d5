"""What a soak found, as a table, and whether it is within its bounds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """Bounds with what was seen."""

    title: str
    lines: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """A line, shown at once: a soak takes minutes."""
        self.lines.append(line)
        print(f"  {line}", flush=True)

    def bound(self, what: str, seen: float, most: float, unit: str = "") -> None:
        """What was counted, and the most that it may be."""
        fine = seen <= most
        self.say(f"{'ok    ' if fine else 'BROKEN'}  {what}: {seen:.4g}{unit} (at most {most:g}{unit})")
        if not fine:
            self.broken.append(what)
