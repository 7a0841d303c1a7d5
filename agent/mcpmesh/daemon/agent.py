"""The agent: brings its mesh up, keeps it up, and leaves it running or takes it down."""

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
from mcpmesh.daemon.intervals import DEFAULT_INTERVALS, Intervals
from mcpmesh.daemon.mesh import Mesh
from mcpmesh.errors import CatalogError, MeshError, PeerError, Refused
from mcpmesh.kit.marked_process import find_marked
from mcpmesh.kit.ports import release_expired
from mcpmesh.model.agent_reports import Event, Level
from mcpmesh.model.service import Catalog
from mcpmesh.reconcile.event_journal import Journal
from mcpmesh.reconcile.reconcile_loop import ReconcileLoop
from mcpmesh.settings import Settings

# How long `down` may take beyond the drain time of calls; what runs after that is ended by its mark.
_DOWN_SECONDS = 120.0
# After so many passes without Consul, which draining needs, `down` ends what runs by its mark too.
_PASSES_WITHOUT_CONSUL = 20
# Adopting what a dead agent left takes a second or two.
_ADOPT_SECONDS = 20.0


class Agent:
    """One mesh, its catalog, and the background tasks for them; `finished` is set when the process may end."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        sources: Sequence[Path],
        first: Catalog | CatalogError | None,
        intervals: Intervals = DEFAULT_INTERVALS,
    ) -> None:
        self.journal = Journal()
        self.finished = asyncio.Event()
        self.background = BackgroundTasks(self.journal, self.finished.set)
        documents = sources[0].parent / "kong.d" if sources else None
        self.mesh = Mesh(settings, name, self.journal, documents, intervals)
        self.catalog = ActiveCatalog(self.mesh, sources, first)
        containers = settings.runtime == "containers"
        self._compose = ComposeFollower(self.mesh, self.catalog, intervals) if containers else None
        self._intervals = intervals
        self._bringing_up: asyncio.Task[None] | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._consul_task: asyncio.Task[None] | None = None
        self._going_down: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts everything in the background; what happens is in the journal."""
        for warning in self.catalog.current.warnings if self.catalog.current else ():
            self.journal.record(Level.TROUBLE, warning, "catalog")
        if self._compose:
            self._compose.signal.announce_agent()
            self.mesh.is_wanted = self._compose.signal.servers_wanted()
            self.background.start(self._compose.follow_signal(), "follow compose")
        self.mesh.set_catalog(self.catalog.current)
        self._bringing_up = self.background.start(self._bring_up(), "bring up")
        self.background.start(self.catalog.watch(), "watch the catalog")
        self.background.start(self.catalog.watch_documents(), "watch the documents for Kong")

    async def stop(self) -> None:
        """Stops the agent; the mesh keeps running."""
        if self._compose:
            self._compose.signal.withdraw_agent()
        await self.background.close()
        await self.mesh.close()

    async def nudge(self) -> None:
        """Asks for a reconcile pass, which observes everything anew."""
        if self.mesh.loop is not None:
            self.mesh.loop.request_pass()

    async def tidy(self) -> None:
        """Releases expired port reservations, and keeps logs small where it is known which are still written."""
        release_expired()
        with suppress(PeerError):
            writing = {
                process.mark.instance or process.mark.role for process in await self.mesh.runtime.list_processes()
            }
            await asyncio.to_thread(log_files.tidy, self.mesh.home / "logs", writing)

    async def down(self) -> AsyncIterator[Event]:
        """Drains and stops everything, and yields the events until only the agent is left."""
        if self._compose:
            raise Refused(
                "cannot take containers down from inside; outside: docker compose down, or: docker compose stop servers"
            )
        since = self.journal.last
        if self._going_down is None:
            self._going_down = self.background.start(self._stop_all(), "down")
        async for event in self.journal.follow(since, forever=True):
            yield event

    async def _adopt(self) -> None:
        """Adopts what an earlier agent left, so that it can be drained."""
        has_external_consul = self.mesh.settings.consul.address is not None
        if has_external_consul or any(process.mark.role == CONSUL for process in find_marked(self.mesh.home)):
            self._bringing_up = self.background.start(self._bring_up(), "bring up")
            await asyncio.wait([self._bringing_up], timeout=_ADOPT_SECONDS)
            self._bringing_up.cancel()
            await asyncio.gather(self._bringing_up, return_exceptions=True)

    async def _bring_up(self) -> None:
        """Tries until it works: a Consul that can't be reached now may be reachable soon."""
        mesh, wait = self.mesh, self._intervals.first_retry
        await mesh.desired_known.wait()
        while True:
            try:
                loop = await mesh.bring_up()
                mesh.failure = None
                break
            except MeshError as error:
                if mesh.failure != str(error):
                    self.journal.record(Level.TROUBLE, str(error), "mesh")
                await mesh.note_failure(str(error))
            if self._going_down is not None:
                return
            await asyncio.sleep(wait)
            wait = min(wait * 2, self._intervals.longest_retry)
        assert mesh.consul.connection is not None
        self._loop_task = self.background.start(self._run_loop(loop), "loop")
        self.background.start(self._watch_consul(mesh.consul.connection.client, loop), "watch consul")
        if self._compose:
            self.background.start(self._compose.follow_ingress(), "follow the ingress")
        self._consul_task = self.background.start(mesh.consul.keep_running(loop.notify_change), "keep consul")
        self.background.start(mesh.kong.watch(loop), "watch kong")

    async def _run_loop(self, loop: ReconcileLoop) -> None:
        passes_without_consul = 0

        def is_down() -> bool:
            nonlocal passes_without_consul
            passes_without_consul = 0 if loop.consul_ready else passes_without_consul + 1
            can_not_drain = passes_without_consul >= _PASSES_WITHOUT_CONSUL
            return self._going_down is not None and (loop.in_sync or can_not_drain)

        await loop.run(until=is_down)

    async def _watch_consul(self, consul: Consul, loop: ReconcileLoop) -> None:
        async for _ in consul.changes():
            loop.notify_change()

    async def _stop_all(self) -> None:
        began = time.monotonic()
        self.journal.record(Level.CHANGE, "going down: draining, then stopping everything")
        if self._bringing_up and not self._bringing_up.done():
            self._bringing_up.cancel()
            await asyncio.gather(self._bringing_up, return_exceptions=True)
        self.mesh.remove_everything()
        if self.mesh.loop is None:
            await self._adopt()
        if self._loop_task and self.mesh.loop:
            limit = _DOWN_SECONDS + max((process.mark.drain for process in find_marked(self.mesh.home)), default=0.0)
            _, late = await asyncio.wait([self._loop_task], timeout=limit)
            for step in self.mesh.loop.plan.waiting if late else ():
                self.journal.record(Level.TROUBLE, f"not done within {limit:.0f} s: {step.sentence}", step.service)
        tasks = [task for task in (self._loop_task, self._consul_task) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ended = await self.mesh.sweep()
        seconds = time.monotonic() - began
        if ended:
            self.journal.record(Level.PROGRESS, f"ended last: {', '.join(ended)}")
        self.journal.record(Level.CHANGE, f"down after {seconds:.1f} s; nothing of this mesh runs any more")
        self.journal.close()
        self.finished.set()
