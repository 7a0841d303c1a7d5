"""What is reachable from outside the mesh: published ports, and listeners of the compose project's other containers."""

from __future__ import annotations

import asyncio

from mcpmesh.settings import ContainerSettings
from mcpmesh.workload.containers import container_naming
from mcpmesh.workload.containers.agent_environment import PROJECT, EnvironmentReader, address_on
from mcpmesh.workload.containers.docker_engine import DockerEngine
from mcpmesh.workload.runtime import Neighbour, PublishedPort

# A kernel without IPv6 has no second table.
_READ_SOCKET_TABLES = ("sh", "-c", "cat /proc/net/tcp; cat /proc/net/tcp6 2>/dev/null; true")


class Exposure:
    """Reads it for `mcpmesh verify`."""

    def __init__(self, engine: DockerEngine, environment: EnvironmentReader, settings: ContainerSettings) -> None:
        self._engine = engine
        self._environment = environment
        self._settings = settings

    async def neighbours(self) -> list[Neighbour]:
        """The running containers of the compose project on the sidecars' network that the agent did not start."""
        project = (await self._environment.read()).project
        if not project:
            return []
        listed = await self._engine.labelled(f"{PROJECT}={project}")
        ids = [item["Id"] for item in listed if container_naming.OWNER not in (item.get("Labels") or {})]
        inspected = [item for item in await asyncio.gather(*map(self._engine.inspect, ids)) if item]
        network = self._settings.network
        running = [item for item in inspected if item["State"]["Running"] and address_on(item, network)]
        tables = await asyncio.gather(*(self._engine.run_in(item["Id"], _READ_SOCKET_TABLES) for item in running))
        return [
            Neighbour(str(item["Name"]).lstrip("/"), address_on(item, self._settings.edge), table)
            for item, table in zip(running, tables, strict=True)
        ]

    async def published_ports(self) -> list[PublishedPort]:
        """Every port of the host that leads into a container of the mesh or of its compose project."""
        environment = await self._environment.read()
        labels = [f"{container_naming.OWNER}={environment.owner}"]
        labels += [f"{PROJECT}={environment.project}"] if environment.project else []
        listed = [item for label in labels for item in await self._engine.labelled(label)]
        return sorted(
            {port for item in listed for port in container_naming.published_ports(item, environment.owner)},
            key=lambda port: (port.container, port.port),
        )
