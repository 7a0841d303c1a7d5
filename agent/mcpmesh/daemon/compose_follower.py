"""What happens around a mesh of containers: the companion comes and goes, the ingress's container moves."""

from __future__ import annotations

import asyncio
import time

from mcpmesh.daemon.active_catalog import ActiveCatalog
from mcpmesh.daemon.compose_signal import ComposeSignal
from mcpmesh.daemon.mesh import Mesh
from mcpmesh.errors import MeshError
from mcpmesh.model.report_items import Level

# How often is looked whether the ingress is at another address.
_INGRESS_SECONDS = 1.0
# Beyond this `docker compose down`, which gives the servers 60 s, would leave them behind.
_GONE_SECONDS = 40.0
# How soon what could not be done for the companion is tried again.
_AGAIN_SECONDS = 1.0


class ComposeFollower:
    """Has the mesh follow what compose does."""

    def __init__(self, mesh: Mesh, catalog: ActiveCatalog) -> None:
        self.signal = ComposeSignal(mesh.settings.containers.sockets)
        self._mesh = mesh
        self._catalog = catalog

    async def follow_signal(self) -> None:
        """Wants the servers while the companion does, and tells it when they are gone; never returns."""
        async for wanted in self.signal.states():
            end, said = time.monotonic() + _GONE_SECONDS, ""
            while self.signal.wants() == wanted:
                try:
                    await self._obey(wanted, end)
                    break
                except MeshError as error:
                    if str(error) not in (said, self._mesh.failure):
                        self._mesh.journal.record(Level.TROUBLE, str(error), "mesh")
                    said = str(error)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def follow_ingress(self) -> None:
        """Has the ingress registered where it is; never returns."""
        while True:
            await asyncio.sleep(_INGRESS_SECONDS)
            if await self._mesh.ingress_moved():
                with self._mesh.reporting_problems("mesh"):
                    self._mesh.want(self._catalog.current)

    async def _obey(self, wanted: bool, end: float) -> None:
        if wanted != self._mesh.wanted:
            self._mesh.wanted = wanted
            self._mesh.journal.record(Level.CHANGE, "the servers are wanted" if wanted else "the servers are to go")
        self._mesh.want(self._catalog.current)
        if not wanted:
            await self._until_gone(end)
            self.signal.gone()

    async def _until_gone(self, end: float) -> None:
        """Until the last server has drained and ended; what has not at `end` is ended without asking."""
        while not self._in_sync() and time.monotonic() < end and not self.signal.wants():  # noqa: ASYNC110 - three ends
            await asyncio.sleep(0.2)
        if not self.signal.wants():
            await self._mesh.sweep()

    def _in_sync(self) -> bool:
        loop = self._mesh.loop
        return loop is not None and loop.passes > 0 and loop.in_sync
