"""Remembers which calls make a server send its client a request. It is learned from what happened, and bounded."""

from __future__ import annotations

from typing import Final, TypeAlias

# Callers choose the names of tools, prompts and resources; beyond this number the oldest are forgotten.
MAX_REMEMBERED: Final = 512

Target: TypeAlias = tuple[str, bytes]
"""A method, and the name or the URI that it is called with."""


class ServerRequestHistory:
    """Targets whose calls led to a server request, or are suspected of it until one ends without."""

    def __init__(self) -> None:
        self._certain: dict[Target, bool] = {}

    def __contains__(self, target: Target) -> bool:
        return target in self._certain

    def __len__(self) -> int:
        return len(self._certain)

    def record(self, target: Target) -> None:
        """A call of this target led to a server request."""
        self._remember(target, True)

    def suspect(self, target: Target) -> None:
        """A call of this target, or another that ran beside it, led to a server request."""
        if target not in self._certain:
            self._remember(target, False)

    def clear(self, target: Target) -> None:
        """A call of this target ended without a server request: a mere suspicion is dropped."""
        if self._certain.get(target) is False:
            del self._certain[target]

    def _remember(self, target: Target, certain: bool) -> None:
        self._certain.pop(target, None)
        if len(self._certain) >= MAX_REMEMBERED:
            del self._certain[next(iter(self._certain))]
        self._certain[target] = certain
