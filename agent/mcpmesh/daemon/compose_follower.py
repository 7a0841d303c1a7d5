"""Follows compose: starts and stops the servers as it signals, and follows the ingress's container to a new address."""

from __future__ import annotations

import asyncio
import time

from mcpmesh.daemon.active_catalog import ActiveCatalog
from mcpmesh.daemon.compose_marker_files import ComposeMarkerFiles
from mcpmesh.daemon.intervals import DEFAULT_INTERVALS, Intervals
from mcpmesh.daemon.mesh import Mesh
from mcpmesh.errors import MeshError
from mcpmesh.model.agent_reports import Level

# Servers that drain longer are ended: `docker compose down` waits 60 s, and then leaves them behind.
_STOP_SECONDS = 40.0


class ComposeFollower:
    """Makes the mesh follow what compose does."""

    def __init__(self, mesh: Mesh, catalog: ActiveCatalog, intervals: Intervals = DEFAULT_INTERVALS) -> None:
        self.signal = ComposeMarkerFiles(mesh.settings.containers.sockets)
        self._mesh = mesh
        self._catalog = catalog
        self._intervals = intervals

    async def follow_signal(self) -> None:
        """Runs the servers while compose wants them, and reports when they are gone; never returns."""
        async for wanted in self.signal.wanted_changes(self._intervals.compose_signal):
            deadline, reported = time.monotonic() + _STOP_SECONDS, ""
            while self.signal.servers_wanted() == wanted:
                try:
                    await self._apply(wanted, deadline)
                    break
                except MeshError as error:
                    if str(error) not in (reported, self._mesh.failure):
                        self._mesh.journal.record(Level.TROUBLE, str(error), "mesh")
                    reported = str(error)
                await asyncio.sleep(self._intervals.compose_retry)

    async def follow_ingress(self) -> None:
        """Registers the ingress at the address that its container has; never returns."""
        while True:
            await asyncio.sleep(self._intervals.ingress_address)
            if await self._mesh.refresh_ingress_hosts():
                with self._mesh.reporting_problems("mesh"):
                    self._mesh.set_catalog(self._catalog.current)

    async def _apply(self, wanted: bool, deadline: float) -> None:
        if wanted != self._mesh.is_wanted:
            self._mesh.is_wanted = wanted
            self._mesh.journal.record(Level.CHANGE, "the servers are wanted" if wanted else "the servers are to go")
        self._mesh.set_catalog(self._catalog.current)
        if not wanted:
            await self._wait_until_gone(deadline)
            self.signal.report_gone()

    async def _wait_until_gone(self, deadline: float) -> None:
        """Waits until the last server has drained and ended; at `deadline` the rest is ended without draining."""

        def may_wait() -> bool:
            return not self._in_sync() and time.monotonic() < deadline and not self.signal.servers_wanted()

        while may_wait():  # noqa: ASYNC110 - one of the three is a file
            await asyncio.sleep(self._intervals.compose_stopped)
        if not self.signal.servers_wanted():
            await self._mesh.sweep()

    def _in_sync(self) -> bool:
        loop = self._mesh.loop
        return loop is not None and loop.passes > 0 and loop.in_sync
