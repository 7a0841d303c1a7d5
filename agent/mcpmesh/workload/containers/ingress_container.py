"""What of the mesh is open beyond it: the container at the edge, its neighbours, each port that Docker publishes."""

from __future__ import annotations

import asyncio

from mcpmesh.errors import WorkloadError
from mcpmesh.settings import ContainerSettings
from mcpmesh.workload.containers import layout
from mcpmesh.workload.containers.agent_environment import PROJECT, EnvironmentReader, ip_on
from mcpmesh.workload.containers.docker_engine import DockerEngine, Json
from mcpmesh.workload.runtime import Neighbour, PublishedPort

# A kernel without IPv6 has no second table.
_LISTENERS = ("sh", "-c", "cat /proc/net/tcp; cat /proc/net/tcp6 2>/dev/null; true")


class IngressContainer:
    """The container in whose network namespace the ingress is; somebody else (compose) runs it."""

    def __init__(self, engine: DockerEngine, around: EnvironmentReader, settings: ContainerSettings) -> None:
        self._engine = engine
        self._around = around
        self._settings = settings

    async def container(self) -> Json:
        """As Docker describes it; raises WorkloadError where it does not run."""
        surroundings = await self._around()
        for listed in await self._engine.labelled(layout.INGRESS):
            labels = listed.get("Labels") or {}
            ours = not surroundings.project or labels.get(PROJECT) == surroundings.project
            if ours and listed.get("State") == "running" and (found := await self._engine.inspect(listed["Id"])):
                return found
        raise WorkloadError(
            f"cannot open the ingress: no container with the label {layout.INGRESS} runs; see: docker compose ps"
        )

    async def hosts(self) -> tuple[str, str]:
        """Where it is reached by clients and by the mesh; raises WorkloadError where it is not."""
        found = await self.container()
        hosts = ip_on(found, self._settings.edge), ip_on(found, self._settings.network)
        if not all(hosts):
            networks = f"{self._settings.edge} and {self._settings.network}"
            raise WorkloadError(f"cannot open the ingress: its container has to be on the networks {networks}")
        return hosts

    async def neighbours(self) -> list[Neighbour]:
        """The containers of the project on the network of the sidecars, but for those of the mesh itself."""
        surroundings = await self._around()
        if not surroundings.project:
            return []
        listed = await self._engine.labelled(f"{PROJECT}={surroundings.project}")
        ids = [one["Id"] for one in listed if layout.OWNER not in (one.get("Labels") or {})]
        found = [each for each in await asyncio.gather(*map(self._engine.inspect, ids)) if each]
        there = [each for each in found if each["State"]["Running"] and ip_on(each, self._settings.network)]
        tables = await asyncio.gather(*(self._engine.run_in(each["Id"], _LISTENERS) for each in there))
        return [
            Neighbour(str(each["Name"]).lstrip("/"), ip_on(each, self._settings.edge), table)
            for each, table in zip(there, tables, strict=True)
        ]

    async def published(self) -> list[PublishedPort]:
        """Every port of the host that leads into a container of the mesh or of its project."""
        surroundings = await self._around()
        labels = [f"{layout.OWNER}={surroundings.owner}"]
        labels += [f"{PROJECT}={surroundings.project}"] if surroundings.project else []
        listed = [one for label in labels for one in await self._engine.labelled(label)]
        return sorted(
            {each for one in listed for each in layout.published(one, surroundings.owner)},
            key=lambda each: (each.container, each.port),
        )
