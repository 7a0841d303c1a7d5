"""Where the agent itself is: in a container with volumes and an image, or on the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcpmesh.errors import SettingsError
from mcpmesh.settings import ContainerSettings
from mcpmesh.workload.containers.docker_engine import DockerEngine, own_container
from mcpmesh.workload.containers.layout import HostPaths

# What compose writes on its containers.
PROJECT = "com.docker.compose.project"


@dataclass(frozen=True)
class AgentEnvironment:
    """`owner` tells our containers from those of another mesh at the same Docker."""

    owner: str
    image: str
    place: HostPaths
    project: str = ""


class EnvironmentReader:
    """The surroundings, looked at once."""

    def __init__(self, engine: DockerEngine, settings: ContainerSettings, mesh: str, home: str) -> None:
        self._engine = engine
        self._settings = settings
        self._mesh = mesh
        self._home = home
        self._known: AgentEnvironment | None = None

    async def __call__(self) -> AgentEnvironment:
        """See `look`."""
        if self._known is None:
            self._known = await look(self._engine, self._settings, self._mesh, self._home)
        return self._known


async def look(engine: DockerEngine, settings: ContainerSettings, mesh: str, home: str) -> AgentEnvironment:
    """Reads the own container; raises SettingsError where what is needed can't be told from it, or PeerError."""
    id_ = own_container()
    own = await engine.inspect(id_) if id_ else None
    if own is None:
        if settings.image is None:
            raise SettingsError("cannot run containers from outside of one: set MCPMESH_CONTAINERS__IMAGE")
        folders = {str(path): str(path) for path in (settings.sockets, settings.data)}
        return AgentEnvironment(home, settings.image, HostPaths({**folders, "/": "/"}))
    labels: Mapping[str, str] = own["Config"].get("Labels") or {}
    project = labels.get(PROJECT, "")
    given = {mount["Destination"]: mount["Source"] for mount in own.get("Mounts") or ()}
    for path, setting in ((settings.sockets, "SOCKETS"), (settings.data, "DATA")):
        if str(path) not in given:
            raise SettingsError(f"cannot share {path} with containers: mount a volume there, or mend {_name(setting)}")
    return AgentEnvironment(f"{project or home}/{mesh}", settings.image or own["Image"], HostPaths(given), project)


def ip_on(inspected: Mapping[str, Any], network: str) -> str:
    """The address of a container there; "" where it is not on that network."""
    found = (inspected["NetworkSettings"].get("Networks") or {}).get(network) or {}
    return str(found.get("IPAddress") or "")


def _name(setting: str) -> str:
    return f"MCPMESH_CONTAINERS__{setting}"
