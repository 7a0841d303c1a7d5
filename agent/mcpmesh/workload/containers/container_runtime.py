"""Runs the instances of a catalog as containers; each is found again by its labels.

An instance is a shim and an Envoy in one network namespace, which nobody else
is in: loopback there is a boundary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from mcpmesh.kit.marked_process import Process
from mcpmesh.kit.unix_http import http_client
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed import Workload
from mcpmesh.model.service import ServiceSpec
from mcpmesh.settings import Settings
from mcpmesh.workload import shim_status
from mcpmesh.workload.containers import layout
from mcpmesh.workload.containers.agent_environment import EnvironmentReader
from mcpmesh.workload.containers.container_ids import ContainerIds
from mcpmesh.workload.containers.discovery import ContainerDiscovery
from mcpmesh.workload.containers.docker_engine import DockerEngine
from mcpmesh.workload.containers.ingress_container import IngressContainer
from mcpmesh.workload.containers.starter import ContainerStarter
from mcpmesh.workload.runtime import SERVER, EnvoyLaunch, Neighbour, PreferredPorts, PublishedPort

# After `quit` an Envoy needs some tens of milliseconds; beyond this it is stuck.
_QUIT_SECONDS = 2.0


class ContainerRuntime:
    """The container runtime (see Runtime): one Docker, asked by what starts, finds and ends."""

    def __init__(self, settings: Settings, mesh: str, home: Path) -> None:
        self.sockets: Path | None = settings.containers.sockets
        self._home = home
        self._engine = DockerEngine(settings.containers.engine)
        self._http = http_client(settings.containers.sockets, timeout=5.0)
        self._known = ContainerIds()
        around = EnvironmentReader(self._engine, settings.containers, mesh, str(home))
        self._edge = IngressContainer(self._engine, around, settings.containers)
        self._finder = ContainerDiscovery(self._engine, self._known, around, settings.containers, home)
        self._starter = ContainerStarter(self._engine, self._known, around, self._edge, settings)

    async def close(self) -> None:
        """See Runtime."""
        await self._finder.close()
        await self._http.aclose()
        await self._engine.close()

    # What is there.

    async def found(self) -> list[Process]:
        """See Runtime."""
        return await self._finder.found()

    async def observe(self, process: Process) -> Workload:
        """See Runtime."""
        return await shim_status.ask(self._http, process)

    async def last_words(self, name: str) -> str:
        """See Runtime."""
        return await self._finder.last_words(name)

    async def any_end(self, processes: Sequence[Process]) -> None:
        """See Runtime; any change of our containers counts."""
        await self._finder.change()

    def descends_from(self, process: Process, ancestors: Collection[int]) -> bool:
        """See Runtime; the program of an image is where its shim is, or it is not found."""
        return process.pid in ancestors or process.mark.role == SERVER

    async def run_in_namespace_of(self, envoy: Process, arguments: Sequence[str]) -> str:
        """See Runtime."""
        id_ = self._known.id(envoy.mark.role, envoy.mark.instance)
        return await self._engine.run_in(id_, [layout.PYTHON, *arguments]) if id_ else ""

    async def published(self) -> list[PublishedPort]:
        """See Runtime."""
        return await self._edge.published()

    async def neighbours(self) -> list[Neighbour]:
        """See Runtime."""
        return await self._edge.neighbours()

    async def ingress_hosts(self) -> tuple[str, str] | None:
        """See Runtime."""
        return await self._edge.hosts()

    # Starting.

    async def start(self, spec: ServiceSpec, instance: Instance, kept: PreferredPorts, taken: Collection[int]) -> None:
        """See Runtime."""
        await self._starter.instance(spec, instance, self._home)

    async def start_envoy(self, envoy: EnvoyLaunch, taken: Collection[int]) -> None:
        """See Runtime."""
        await self._starter.envoy(envoy)

    def is_free(self, port: int) -> bool:
        """See Runtime; nobody else is in an instance's namespace."""
        return True

    # Ending.

    async def stop(self, process: Process, drain_seconds: float) -> None:
        """See Runtime."""
        # A shim needs its own time to stop the server in order after it has drained.
        await self.end(process, drain_seconds + 10.0)

    async def stop_envoy(self, process: Process) -> None:
        """See Runtime."""
        await self.end(process, _QUIT_SECONDS)

    async def end(self, process: Process, grace_seconds: float) -> None:
        """See Runtime."""
        id_ = self._known.id(process.mark.role, process.mark.instance)
        if id_ is None:
            return
        await self._engine.stop(id_, grace_seconds)
        await self._finder.put_away(id_, process.mark)
        self._known.ended(process.mark)

    def remove_bootstraps(self) -> None:
        """See Runtime; each goes with its container."""
