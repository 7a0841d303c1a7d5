"""Names, labels and places of our containers, and what each of them may do; pure.

The folder of sockets is a volume. Each container is given only its own part of
it, and an Envoy that of Consul too, so that no server can reach another's
shim, an admin address or Consul:

    KEY-shim/shim.sock          its shim's pages, for the agent
    KEY-envoy/admin.sock        its Envoy's admin address, for the agent
    KEY-envoy/bootstrap.json    0600, since it holds Consul's token
    KEY-server/stdio.sock       the program of an image, for its shim
    consul/grpc.sock            Consul's xDS, for Envoys
    bin/mcpmesh-stdio           what serves that program there
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpmesh.kit.marked_process import Mark
from mcpmesh.settings import ContainerSettings
from mcpmesh.workload.runtime import PublishedPort

# Labels. The mark is what the agent reads; the others are for people and filters.
OWNER = "mcpmesh.owner"
MARK = "mcpmesh.mark"
ROLE = "mcpmesh.role"
# The life (id and start) of the container whose network namespace an Envoy is in.
JOINED = "mcpmesh.joined"
# compose.yaml sets it on the container whose network namespace the ingress has.
INGRESS = "mcpmesh.ingress"

# The image whose program a shim serves, where that is in a container of its own.
IMAGE = "mcpmesh.image"

# Inside every container of ours.
HERE = "/run/mcpmesh"
CONSUL_HERE = "/run/consul"
DATA_HERE = "/data"
STDIO_HERE = "/run/mcpmesh-stdio"
STDIO = "/opt/mcpmesh/bin/mcpmesh-stdio"
# Where the container of an image is given the program that serves it.
PROGRAMS_HERE = "/.mcpmesh"
BOOTSTRAP = "bootstrap.json"
# The image's Python, which is the agent's.
PYTHON = "/opt/mcpmesh/bin/python"

# No file of an image belongs to it.
NOBODY = 65532

_LOG = {"type": "json-file", "config": {"max-size": "10m", "max-file": "2"}}
_MIB = 1024 * 1024
# An Envoy takes about 70 MiB; the rest is for buffers.
_ENVOY_MEBIBYTES = 512


@dataclass(frozen=True)
class HostPaths:
    """`inside` as the agent sees folders that it was given, with where Docker has them."""

    given: Mapping[str, str]

    def outside(self, path: Path) -> str | None:
        """Where Docker finds a folder that the agent sees, by the nearest mount; None where it can't."""
        for inside in sorted(self.given, key=len, reverse=True):
            if Path(inside) in (path, *path.parents):
                return str(Path(self.given[inside]) / path.relative_to(inside))
        return None


def key(instance: str) -> str:
    """Short enough for the path of a socket (108 bytes)."""
    return hashlib.sha256(instance.encode()).hexdigest()[:16]


def folder(mark: Mark) -> str:
    """The part of the folder of sockets that belongs to a container."""
    return f"{key(mark.instance)}-{mark.role}"


def name(prefix: str, mark: Mark) -> str:
    """What a container is called: the project tells it from another's, the instance's name begins with the mesh's."""
    return f"{prefix}-{mark.instance}-{mark.role}"


def labels(owner: str, mark: Mark, joined: str = "", image: str = "") -> dict[str, str]:
    """All that finds a container again."""
    told = {"mcpmesh.mesh": mark.mesh, ROLE: mark.role, "mcpmesh.instance": mark.instance}
    told |= {"mcpmesh.service": mark.service, "mcpmesh.digest": mark.digest[:12]}
    told |= {name: value for name, value in ((JOINED, joined), (IMAGE, image)) if value}
    return {OWNER: owner, MARK: mark.dump(), **told}


def life(inspected: Mapping[str, Any]) -> str:
    """One life of a container: started again, it has another network namespace."""
    return f"{inspected['Id']}@{inspected['State']['StartedAt']}"


def published(listed: Mapping[str, Any], owner: str) -> Iterator[PublishedPort]:
    """The ports of the host that lead into a container, from how Docker lists it."""
    labels = listed.get("Labels") or {}
    name = str(listed["Names"][0]).lstrip("/")
    for port in listed.get("Ports") or ():
        if port.get("PublicPort"):
            ours, ingress = labels.get(OWNER) == owner, INGRESS in labels
            yield PublishedPort(name, str(port["IP"]), int(port["PublicPort"]), int(port["PrivatePort"]), ours, ingress)


def of_program(settings: ContainerSettings, network: str, binds: Sequence[str]) -> dict[str, Any]:
    """For `create_host_config`: a program that may do its work and nothing else."""
    return {
        "binds": list(binds),
        "network_mode": network,
        "read_only": True,
        "tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,size={settings.tmp_mebibytes}m,mode=1777"},  # noqa: S108
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "mem_limit": settings.memory_mebibytes * _MIB,
        "nano_cpus": round(settings.cpus * 1e9),
        "pids_limit": settings.processes,
        "log_config": _LOG,
        # The agent starts it again, with its secrets; Docker could only do it without.
        "restart_policy": {"Name": "no"},
    }


def of_server(settings: ContainerSettings, holder: str, binds: Sequence[str]) -> dict[str, Any]:
    """The same, for the program of an image: many write into their own folders, so its files are a layer of its own."""
    return {**of_program(settings, f"container:{holder}", binds), "read_only": False}


def of_envoy(settings: ContainerSettings, holder: str, binds: Sequence[str]) -> dict[str, Any]:
    """The same, for an Envoy in the network namespace of the container `holder`."""
    config = of_program(settings, f"container:{holder}", binds)
    return {**config, "mem_limit": _ENVOY_MEBIBYTES * _MIB, "tmpfs": {"/tmp": "rw,noexec,size=16m"}}  # noqa: S108
