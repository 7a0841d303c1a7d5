"""What the container beside the agent says: whether the servers are wanted at all.

compose.yaml's `servers` leaves the file `wanted` while it runs, takes it away
when it is told to stop, and then waits for our `gone`. So `docker compose
down` ends every server, and the end of the agent ends none. It waits only
while there is our `agent`: when Docker itself stops, all are told at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

_LOOK_SECONDS = 0.3


class ComposeSignal:
    """The three files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._wanted = folder / "wanted"
        self._gone = folder / "gone"
        self._agent = folder / "agent"

    def wants(self) -> bool:
        """Whether the servers are wanted now."""
        return self._wanted.exists()

    async def states(self) -> AsyncIterator[bool]:
        """Whether they are wanted: now, and each time when that changes."""
        before: bool | None = None
        while True:
            if (now := self.wants()) != before:
                before = now
                yield now
            await asyncio.sleep(_LOOK_SECONDS)

    def come(self) -> None:
        """Says that there is an agent to wait for."""
        self._agent.touch()

    def leave(self) -> None:
        """Says that there is none any more."""
        self._agent.unlink(missing_ok=True)

    def gone(self) -> None:
        """Says that no server is left."""
        if not self.wants():
            self._gone.touch()
