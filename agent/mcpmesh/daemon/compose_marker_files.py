"""What compose's `servers` container signals: whether the servers have to run.

compose.yaml's `servers` creates the file `wanted` while it runs. When it is
told to stop, it removes that file and waits for our file `gone`. So `docker
compose down` ends every server, and the end of the agent ends none. It waits
only while our file `agent` exists: when Docker itself stops, all containers
are told to stop at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path


class ComposeMarkerFiles:
    """The three files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._wanted = folder / "wanted"
        self._gone = folder / "gone"
        self._agent = folder / "agent"

    def servers_wanted(self) -> bool:
        """Whether the servers have to run now."""
        return self._wanted.exists()

    async def wanted_changes(self, poll_seconds: float) -> AsyncIterator[bool]:
        """Yields `servers_wanted` now, and each time when it changes."""
        before: bool | None = None
        while True:
            if (now := self.servers_wanted()) != before:
                before = now
                yield now
            await asyncio.sleep(poll_seconds)

    def announce_agent(self) -> None:
        """Signals that an agent runs, so that `servers` waits for it."""
        self._agent.touch()

    def withdraw_agent(self) -> None:
        """Signals that no agent runs any more."""
        self._agent.unlink(missing_ok=True)

    def report_gone(self) -> None:
        """Signals that no server is left, unless they have to run again."""
        if not self.servers_wanted():
            self._gone.touch()
