"""Growing pauses between attempts."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass
class _Record:
    failures: int
    until: float


class Backoff:
    """Per key: a pause of 1 s after the first failure, doubling up to `ceiling` seconds; reset by a success."""

    def __init__(self, clock: Callable[[], float], ceiling: float = 60.0) -> None:
        self._clock = clock
        self._ceiling = ceiling
        self._records: dict[Hashable, _Record] = {}

    def failed(self, key: Hashable) -> float:
        """Notes a failure; returns the seconds until the next attempt."""
        failures = self._records[key].failures + 1 if key in self._records else 1
        wait = min(2.0 ** (failures - 1), self._ceiling)
        self._records[key] = _Record(failures, self._clock() + wait)
        return wait

    def succeeded(self, key: Hashable) -> None:
        """Forgets the failures of `key`."""
        self._records.pop(key, None)

    def waiting(self, key: Hashable) -> float:
        """The seconds until the next attempt for `key`; 0 when it may be made now."""
        record = self._records.get(key)
        return max(0.0, record.until - self._clock()) if record else 0.0
