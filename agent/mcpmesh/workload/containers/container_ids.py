"""The ids of our containers by role and instance, and which are being started; shared by start, discovery and end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mcpmesh.kit.marked_process import Mark

# The role and the instance of a mark; no two containers share both.
Key = tuple[str, str]

# The "role" under which a shim and the program of its image, two containers, are started together.
PAIR = "pair"


class ContainerIds:
    """Ids by key."""

    def __init__(self) -> None:
        self._ids: dict[Key, str] = {}
        self._starting: set[Key] = set()

    def get(self, role: str, instance: str) -> str | None:
        """The id of the container that runs, as far as is known."""
        return self._ids.get((role, instance))

    def copy(self) -> dict[Key, str]:
        """All ids, as they are now."""
        return dict(self._ids)

    def update(self, listed: Mapping[Key, str], before: Mapping[Key, str]) -> None:
        """Takes over what was `listed`, and keeps what was started since the ids were `before`."""
        self._ids = {**listed, **{key: id_ for key, id_ in self._ids.items() if before.get(key) != id_}}

    def add(self, mark: Mark, id_: str) -> None:
        """Notes a container that was started."""
        self._ids[mark.role, mark.instance] = id_

    def forget(self, mark: Mark) -> None:
        """Drops a container that was ended."""
        self._ids.pop((mark.role, mark.instance), None)

    @contextmanager
    def starting(self, role: str, instance: str) -> Iterator[None]:
        """Within this, `is_starting` protects a container that is only half there from being removed."""
        self._starting.add((role, instance))
        try:
            yield
        finally:
            self._starting.discard((role, instance))

    def is_starting(self, mark: Mark) -> bool:
        """Whether this container, or the pair that it belongs to, is being started."""
        return bool({(mark.role, mark.instance), (PAIR, mark.instance)} & self._starting)
