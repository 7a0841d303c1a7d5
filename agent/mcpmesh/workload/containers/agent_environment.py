"""Where the agent itself runs: in a container with volumes and an image, or directly on the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcpmesh.errors import SettingsError
from mcpmesh.settings import ContainerSettings
from mcpmesh.workload.containers.container_naming import HostPaths
from mcpmesh.workload.containers.docker_engine import DockerEngine, own_container

# The label with which compose names the project of a container.
PROJECT = "com.docker.compose.project"


@dataclass(frozen=True)
class AgentEnvironment:
    """`owner` tells this mesh's containers from those of other meshes at the same Docker.

    `image` is what shims and Envoys run from, `project` the agent's compose
    project ("" without one).
    """

    owner: str
    image: str
    host_paths: HostPaths
    project: str = ""


class EnvironmentReader:
    """Reads the environment once and keeps it."""

    def __init__(self, engine: DockerEngine, settings: ContainerSettings, mesh: str, home: str) -> None:
        self._engine = engine
        self._settings = settings
        self._mesh = mesh
        self._home = home
        self._environment: AgentEnvironment | None = None

    async def read(self) -> AgentEnvironment:
        """See `read_environment`."""
        if self._environment is None:
            self._environment = await read_environment(self._engine, self._settings, self._mesh, self._home)
        return self._environment


async def read_environment(engine: DockerEngine, settings: ContainerSettings, mesh: str, home: str) -> AgentEnvironment:
    """Inspects the agent's own container; raises SettingsError where something needed is missing, or PeerError."""
    id_ = own_container()
    inspected = await engine.inspect(id_) if id_ else None
    if inspected is None:
        if settings.image is None:
            raise SettingsError("cannot run containers from outside of one: set MCPMESH_CONTAINERS__IMAGE")
        folders = {str(path): str(path) for path in (settings.sockets, settings.data)}
        return AgentEnvironment(home, settings.image, HostPaths({**folders, "/": "/"}))
    labels: Mapping[str, str] = inspected["Config"].get("Labels") or {}
    project = labels.get(PROJECT, "")
    mounts = {mount["Destination"]: mount["Source"] for mount in inspected.get("Mounts") or ()}
    for path, setting in ((settings.sockets, "SOCKETS"), (settings.data, "DATA")):
        if str(path) not in mounts:
            name = f"MCPMESH_CONTAINERS__{setting}"
            raise SettingsError(f"cannot share {path} with containers: mount a volume there, or fix {name}")
    owner = f"{project or home}/{mesh}"
    return AgentEnvironment(owner, settings.image or inspected["Image"], HostPaths(mounts), project)


def address_on(inspected: Mapping[str, Any], network: str) -> str:
    """The address of a container on that network; "" where it is not on it."""
    found = (inspected["NetworkSettings"].get("Networks") or {}).get(network) or {}
    return str(found.get("IPAddress") or "")
