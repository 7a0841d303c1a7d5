"""Which containers of ours there are, and which will be in a moment: what starting, looking and ending share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mcpmesh.kit.marked_process import Mark

# The role and the instance of a mark: there is never a second one of both.
Key = tuple[str, str]

# A shim and the program that it serves, in two containers.
PAIR = "pair"


class ContainerIds:
    """Ids by key."""

    def __init__(self) -> None:
        self._ids: dict[Key, str] = {}
        self._starting: set[Key] = set()

    def id(self, role: str, instance: str) -> str | None:
        """Of the container that runs, as far as anybody knows."""
        return self._ids.get((role, instance))

    def all(self) -> dict[Key, str]:
        """A copy."""
        return dict(self._ids)

    def seen(self, ids: Mapping[Key, str], before: Mapping[Key, str]) -> None:
        """Keeps what a look has found that began when `all` was `before`: others start containers meanwhile."""
        self._ids = {**ids, **{key: id_ for key, id_ in self._ids.items() if before.get(key) != id_}}

    def started(self, mark: Mark, id_: str) -> None:
        """It runs."""
        self._ids[mark.role, mark.instance] = id_

    def ended(self, mark: Mark) -> None:
        """It runs no more."""
        self._ids.pop((mark.role, mark.instance), None)

    @contextmanager
    def starting(self, role: str, instance: str) -> Iterator[None]:
        """Meanwhile nobody takes what is half there for what is over."""
        self._starting.add((role, instance))
        try:
            yield
        finally:
            self._starting.discard((role, instance))

    def is_starting(self, mark: Mark) -> bool:
        """Whether it, or the pair that it is one of, is being started."""
        return bool({(mark.role, mark.instance), (PAIR, mark.instance)} & self._starting)
