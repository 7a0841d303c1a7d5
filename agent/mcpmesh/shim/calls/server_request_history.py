"""Which calls make a server ask its client something: learned from what was seen, and not for ever."""

from __future__ import annotations

from typing import Final, TypeAlias

# The names of tools, prompts and resources come from callers; of more than this many the oldest are forgotten.
REMEMBERED: Final = 512

Subject: TypeAlias = tuple[str, bytes]
"""A method, and the name or the URI that it is called with."""


class Askers:
    """What was seen to ask, and what is suspected of it until it ended without having asked."""

    def __init__(self) -> None:
        self._seen: dict[Subject, bool] = {}

    def __contains__(self, subject: Subject) -> bool:
        return subject in self._seen

    def __len__(self) -> int:
        return len(self._seen)

    def seen(self, subject: Subject) -> None:
        """It asked."""
        self._remember(subject, True)

    def suspect(self, subject: Subject) -> None:
        """It, or another beside it, asked."""
        if subject not in self._seen:
            self._remember(subject, False)

    def cleared(self, subject: Subject) -> None:
        """It ended, and had not asked."""
        if self._seen.get(subject) is False:
            del self._seen[subject]

    def _remember(self, subject: Subject, certain: bool) -> None:
        self._seen.pop(subject, None)
        if len(self._seen) >= REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._seen[subject] = certain
