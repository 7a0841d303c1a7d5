"""Which processes have said nothing for too long; pure but for what it remembers."""

from __future__ import annotations

from collections.abc import Mapping

# Who looks may have stood still in between, and they too: two looks alone are no
# proof, and what was seen before such a pause (seconds) is none at all.
_LOOKS = 3
_PAUSE_SECONDS = 15.0


class Silence:
    """Tells silent from stuck, from one look to the next."""

    def __init__(self) -> None:
        self._silent: dict[int, tuple[float, int]] = {}
        self._latest = 0.0

    def stuck(self, bounds: Mapping[int, float], now: float) -> frozenset[int]:
        """Of the pids that are silent in this look, those that have been for more than their bound (seconds)."""
        if now - self._latest > _PAUSE_SECONDS:
            self._silent = {}
        self._latest = now
        before = {pid: self._silent.get(pid, (now, 0)) for pid in bounds}
        self._silent = {pid: (since, looks + 1) for pid, (since, looks) in before.items()}
        return frozenset(
            pid for pid, (since, looks) in self._silent.items() if now - since > bounds[pid] and looks >= _LOOKS
        )
