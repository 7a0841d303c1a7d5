"""Detection of stuck processes: those that have not answered for too long."""

from __future__ import annotations

from collections.abc import Mapping

# A pause between two passes may have stopped the observed processes as well as the
# agent, so it proves nothing: passes before a pause of this length (seconds) don't
# count, and at least this many passes have to find a process silent.
_PASSES = 3
_PAUSE_SECONDS = 15.0


class StuckProcessDetector:
    """Remembers since when, and in how many passes, each process has been silent."""

    def __init__(self) -> None:
        self._silent: dict[int, tuple[float, int]] = {}
        self._latest = 0.0

    def stuck(self, limits: Mapping[int, float], now: float) -> frozenset[int]:
        """The pids that have been silent for longer than their limit (seconds); `limits` has those silent now."""
        if now - self._latest > _PAUSE_SECONDS:
            self._silent = {}
        self._latest = now
        before = {pid: self._silent.get(pid, (now, 0)) for pid in limits}
        self._silent = {pid: (since, passes + 1) for pid, (since, passes) in before.items()}
        return frozenset(
            pid for pid, (since, passes) in self._silent.items() if now - since > limits[pid] and passes >= _PASSES
        )
