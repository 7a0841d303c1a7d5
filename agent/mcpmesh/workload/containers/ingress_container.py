"""The container in whose network namespace the ingress is; compose runs it."""

from __future__ import annotations

from mcpmesh.errors import WorkloadError
from mcpmesh.settings import ContainerSettings
from mcpmesh.workload.containers import container_naming
from mcpmesh.workload.containers.agent_environment import PROJECT, EnvironmentReader, address_on
from mcpmesh.workload.containers.docker_engine import DockerEngine, Json


class IngressContainer:
    """The running container with the label `mcpmesh.ingress`, in the agent's own compose project if it has one."""

    def __init__(self, engine: DockerEngine, environment: EnvironmentReader, settings: ContainerSettings) -> None:
        self._engine = engine
        self._environment = environment
        self._settings = settings

    async def inspect(self) -> Json:
        """Docker's description of it; raises WorkloadError where it does not run."""
        project = (await self._environment.read()).project
        for listed in await self._engine.labelled(container_naming.INGRESS):
            labels = listed.get("Labels") or {}
            in_project = not project or labels.get(PROJECT) == project
            if in_project and listed.get("State") == "running" and (found := await self._engine.inspect(listed["Id"])):
                return found
        raise WorkloadError(
            f"cannot open the ingress: no container with the label {container_naming.INGRESS} runs; "
            "see: docker compose ps"
        )

    async def hosts(self) -> tuple[str, str]:
        """Its address for clients and its address for the mesh; raises WorkloadError where it lacks one."""
        inspected = await self.inspect()
        hosts = address_on(inspected, self._settings.edge), address_on(inspected, self._settings.network)
        if not all(hosts):
            networks = f"{self._settings.edge} and {self._settings.network}"
            raise WorkloadError(f"cannot open the ingress: its container has to be on the networks {networks}")
        return hosts
