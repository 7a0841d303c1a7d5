"""The agent: brings its mesh up, keeps it, lets go of it or takes it down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

from mcpmesh.consul.client import Consul
from mcpmesh.consul.embedded_consul import ROLE as CONSUL
from mcpmesh.daemon import log_files
from mcpmesh.daemon.active_catalog import ActiveCatalog
from mcpmesh.daemon.background_tasks import BackgroundTasks
from mcpmesh.daemon.compose_follower import ComposeFollower
from mcpmesh.daemon.mesh import Mesh
from mcpmesh.errors import CatalogError, MeshError, PeerError, Refused
from mcpmesh.kit.marked_process import find_marked
from mcpmesh.kit.ports import release_expired
from mcpmesh.model.report_items import Event, Level
from mcpmesh.model.service import Catalog
from mcpmesh.reconcile.journal import Journal
from mcpmesh.reconcile.reconcile_loop import ReconcileLoop
from mcpmesh.settings import Settings

# After `down`, what Consul can no longer help to drain is ended by its mark; calls have their time on top.
_DOWN_SECONDS = 120.0
_BLIND_PASSES = 20
# To adopt what a dead agent left takes a second or two.
_ADOPT_SECONDS = 20.0
# A mesh that could not be brought up is tried again after the first, then ever later.
_FIRST_AGAIN_SECONDS = 2.0
_AGAIN_SECONDS = 60.0


class Agent:
    """One mesh and its catalog, and what runs in the background for them; `gone` is set when it may end."""

    def __init__(
        self, settings: Settings, name: str, sources: Sequence[Path], first: Catalog | CatalogError | None
    ) -> None:
        self.journal = Journal()
        self.gone = asyncio.Event()
        self.background = BackgroundTasks(self.journal, self.gone.set)
        self.mesh = Mesh(settings, name, self.journal, sources[0].parent / "kong.d" if sources else None)
        self.catalog = ActiveCatalog(self.mesh, sources, first)
        self._compose = ComposeFollower(self.mesh, self.catalog) if settings.runtime == "containers" else None
        self._bringing_up: asyncio.Task[None] | None = None
        self._passing: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._going_down: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Starts everything in the background; what happens is in the journal."""
        for warning in self.catalog.current.warnings if self.catalog.current else ():
            self.journal.record(Level.TROUBLE, warning, "catalog")
        if self._compose:
            self._compose.signal.come()
            self.mesh.wanted = self._compose.signal.wants()
            self.background.begin(self._compose.follow_signal(), "follow the companion")
        self.mesh.want(self.catalog.current)
        self._bringing_up = self.background.begin(self._bring_up(), "bring up")
        self.background.begin(self.catalog.watch(), "watch the catalog")
        self.background.begin(self.catalog.watch_documents(), "watch the documents for Kong")

    async def end(self) -> None:
        """Stops the agent; the mesh runs on."""
        if self._compose:
            self._compose.signal.leave()
        await self.background.close()
        await self.mesh.close()

    async def nudge(self) -> None:
        """Asks for a pass, and so for a fresh look at everything."""
        if self.mesh.loop is not None:
            self.mesh.loop.request_pass()

    async def tidy(self) -> None:
        """Gives up what was set aside for long enough; keeps the logs small, once it can be told who writes."""
        release_expired()
        with suppress(PeerError):
            writing = {
                process.mark.instance or process.mark.role for process in await self.mesh.runtime.list_processes()
            }
            await asyncio.to_thread(log_files.tidy, self.mesh.home / "logs", writing)

    async def down(self) -> AsyncIterator[Event]:
        """Drains and stops everything; ends when all is gone but the agent."""
        if self._compose:
            raise Refused(
                "cannot take containers down from inside; outside: docker compose down, or: docker compose stop servers"
            )
        since = self.journal.last
        if self._going_down is None:
            self._going_down = self.background.begin(self._stop_all(), "down")
        async for event in self.journal.follow(since, forever=True):
            yield event

    async def _adopt(self) -> None:
        """Takes up what an earlier agent has left, so that it can be drained."""
        others = self.mesh.settings.consul.address is not None
        if others or any(process.mark.role == CONSUL for process in find_marked(self.mesh.home)):
            self._bringing_up = self.background.begin(self._bring_up(), "bring up")
            await asyncio.wait([self._bringing_up], timeout=_ADOPT_SECONDS)
            self._bringing_up.cancel()
            await asyncio.gather(self._bringing_up, return_exceptions=True)

    async def _bring_up(self) -> None:
        """Until it works: a Consul that can't be had now may be had in a while."""
        mesh, wait = self.mesh, _FIRST_AGAIN_SECONDS
        await mesh.known.wait()
        while True:
            try:
                loop = await mesh.bring_up()
                mesh.failure = None
                break
            except MeshError as error:
                if mesh.failure != str(error):
                    self.journal.record(Level.TROUBLE, str(error), "mesh")
                await mesh.fail(str(error))
            if self._going_down is not None:
                return
            await asyncio.sleep(wait)
            wait = min(wait * 2, _AGAIN_SECONDS)
        assert mesh.consul.connection is not None
        self._passing = self.background.begin(self._run_loop(loop), "loop")
        self.background.begin(self._watch_consul(mesh.consul.connection.client, loop), "watch consul")
        if self._compose:
            self.background.begin(self._compose.follow_ingress(), "follow the ingress")
        self._keeping = self.background.begin(mesh.consul.keep(loop.notify_change), "keep consul")
        self.background.begin(mesh.kong.watch(loop), "watch kong")

    async def _run_loop(self, loop: ReconcileLoop) -> None:
        blind = 0

        def over() -> bool:
            nonlocal blind
            blind = 0 if loop.consul_ready else blind + 1
            return self._going_down is not None and (loop.in_sync or blind >= _BLIND_PASSES)

        await loop.run(until=over)

    async def _watch_consul(self, consul: Consul, loop: ReconcileLoop) -> None:
        async for _ in consul.changes():
            loop.notify_change()

    async def _stop_all(self) -> None:
        began = time.monotonic()
        self.journal.record(Level.CHANGE, "going down: draining, then stopping everything")
        if self._bringing_up and not self._bringing_up.done():
            self._bringing_up.cancel()
            await asyncio.gather(self._bringing_up, return_exceptions=True)
        self.mesh.want_nothing()
        if self.mesh.loop is None:
            await self._adopt()
        if self._passing and self.mesh.loop:
            limit = _DOWN_SECONDS + max((process.mark.drain for process in find_marked(self.mesh.home)), default=0.0)
            _, late = await asyncio.wait([self._passing], timeout=limit)
            for step in self.mesh.loop.plan.waiting if late else ():
                self.journal.record(Level.TROUBLE, f"not done within {limit:.0f} s: {step.sentence}", step.service)
        over = [task for task in (self._passing, self._keeping) if task]
        for task in over:
            task.cancel()
        await asyncio.gather(*over, return_exceptions=True)
        ended = await self.mesh.sweep()
        seconds = time.monotonic() - began
        if ended:
            self.journal.record(Level.PROGRESS, f"ended at last: {', '.join(ended)}")
        self.journal.record(Level.CHANGE, f"down after {seconds:.1f} s; nothing of this mesh runs any more")
        self.journal.close()
        self.gone.set()
