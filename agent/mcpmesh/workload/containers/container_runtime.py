"""Runs the instances of a catalog as containers, which are found by their labels.

An instance is a shim and an Envoy in one network namespace. Nothing else is in
it, so its loopback is a boundary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from mcpmesh.kit.marked_process import Process
from mcpmesh.kit.unix_http import http_client
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import Workload
from mcpmesh.model.service import ServiceSpec
from mcpmesh.settings import Settings
from mcpmesh.workload.containers import container_naming
from mcpmesh.workload.containers.agent_environment import EnvironmentReader
from mcpmesh.workload.containers.container_ids import ContainerIds
from mcpmesh.workload.containers.container_listing import ContainerDiscovery
from mcpmesh.workload.containers.docker_engine import DockerEngine
from mcpmesh.workload.containers.exposure import Exposure
from mcpmesh.workload.containers.ingress_container import IngressContainer
from mcpmesh.workload.containers.log_copier import LogCopier
from mcpmesh.workload.containers.starter import ContainerStarter
from mcpmesh.workload.runtime import SERVER, EnvoyLaunch, Neighbour, PreferredPorts, PublishedPort
from mcpmesh.workload.shim_status import read_shim_status

# After `quit` an Envoy needs some tens of milliseconds; beyond this it is stuck.
_QUIT_SECONDS = 2.0
# A shim that has drained still needs time to stop its server in order.
_SERVER_STOP_SECONDS = 10.0


class ContainerRuntime:
    """The container runtime (see Runtime), on one Docker."""

    isolated = True

    def __init__(self, settings: Settings, mesh: str, home: Path) -> None:
        containers = settings.containers
        self.socket_folder: Path | None = containers.sockets
        self._home = home
        self._engine = DockerEngine(containers.engine)
        self._http = http_client(containers.sockets, timeout=5.0)
        self._ids = ContainerIds()
        environment = EnvironmentReader(self._engine, containers, mesh, str(home))
        self._ingress = IngressContainer(self._engine, environment, containers)
        self._exposure = Exposure(self._engine, environment, containers)
        copier = LogCopier(self._engine)
        self._discovery = ContainerDiscovery(self._engine, self._ids, environment, copier, containers, home)
        self._starter = ContainerStarter(self._engine, self._ids, environment, self._ingress, settings)

    async def close(self) -> None:
        """See Runtime."""
        await self._discovery.close()
        await self._http.aclose()
        await self._engine.close()

    # Reading.

    async def list_processes(self) -> list[Process]:
        """See Runtime."""
        return await self._discovery.list_processes()

    async def observe(self, process: Process) -> Workload:
        """See Runtime."""
        return await read_shim_status(self._http, process)

    async def last_log_line(self, name: str) -> str:
        """See Runtime."""
        return await self._discovery.last_log_line(name)

    async def wait_for_any_end(self, processes: Sequence[Process]) -> None:
        """See Runtime; returns at any change of our containers."""
        await self._discovery.wait_for_change()

    def descends_from(self, process: Process, ancestors: Collection[int]) -> bool:
        """See Runtime; the program of an image is only listed where its shim runs."""
        return process.pid in ancestors or process.mark.role == SERVER

    async def run_in_namespace_of(self, envoy: Process, arguments: Sequence[str]) -> str:
        """See Runtime."""
        id_ = self._ids.get(envoy.mark.role, envoy.mark.instance)
        return await self._engine.run_in(id_, [container_naming.PYTHON, *arguments]) if id_ else ""

    async def published_ports(self) -> list[PublishedPort]:
        """See Runtime."""
        return await self._exposure.published_ports()

    async def neighbours(self) -> list[Neighbour]:
        """See Runtime."""
        return await self._exposure.neighbours()

    async def ingress_hosts(self) -> tuple[str, str] | None:
        """See Runtime."""
        return await self._ingress.hosts()

    # Starting.

    async def start(
        self, spec: ServiceSpec, instance: Instance, preferred: PreferredPorts, taken: Collection[int]
    ) -> None:
        """See Runtime."""
        await self._starter.start_instance(spec, instance, self._home)

    async def start_envoy(self, envoy: EnvoyLaunch, taken: Collection[int]) -> None:
        """See Runtime."""
        await self._starter.start_envoy(envoy)

    def is_free(self, port: int) -> bool:
        """See Runtime; every instance has a namespace of its own."""
        return True

    # Ending.

    async def stop(self, process: Process, drain_seconds: float) -> None:
        """See Runtime."""
        await self.end(process, drain_seconds + _SERVER_STOP_SECONDS)

    async def stop_envoy(self, process: Process) -> None:
        """See Runtime."""
        await self.end(process, _QUIT_SECONDS)

    async def end(self, process: Process, grace_seconds: float) -> None:
        """See Runtime."""
        id_ = self._ids.get(process.mark.role, process.mark.instance)
        if id_ is None:
            return
        await self._engine.stop(id_, grace_seconds)
        await self._discovery.remove(id_, process.mark)
        self._ids.forget(process.mark)

    def remove_bootstraps(self) -> None:
        """See Runtime; each is removed with its container."""
