"""Names, labels and paths of our containers; pure.

The folder of sockets is a volume. Each container gets its own part of it, and
an Envoy gets Consul's part too. So no server can reach another one's shim, an
Envoy's admin address or Consul:

    KEY-shim/shim.sock          the shim's own pages, for the agent
    KEY-envoy/admin.sock        the Envoy's admin address, for the agent
    KEY-envoy/bootstrap.json    0600, since it holds Consul's token
    KEY-server/stdio.sock       the program of an image, for its shim
    consul/grpc.sock            Consul's xDS, for Envoys
    bin/mcpmesh-stdio           what serves that program there
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpmesh.kit.marked_process import Mark
from mcpmesh.workload.runtime import PublishedPort

# Labels. The agent reads the mark; the others are for people and filters.
OWNER = "mcpmesh.owner"
MARK = "mcpmesh.mark"
ROLE = "mcpmesh.role"
# The `run_id` of the container whose network namespace this one shares.
JOINED = "mcpmesh.joined"
# compose.yaml sets it on the container whose network namespace the ingress has.
INGRESS = "mcpmesh.ingress"

# The image whose program a shim serves, where that runs in a container of its own.
IMAGE = "mcpmesh.image"

# Paths inside every container of ours.
SOCKETS_INSIDE = "/run/mcpmesh"
CONSUL_INSIDE = "/run/consul"
DATA_INSIDE = "/data"
STDIO_INSIDE = "/run/mcpmesh-stdio"
STDIO_PROGRAM = "/opt/mcpmesh/bin/mcpmesh-stdio"
# Where the container of an image finds the program that serves it.
PROGRAMS_INSIDE = "/.mcpmesh"
BOOTSTRAP = "bootstrap.json"
# The image's Python, which is the agent's.
PYTHON = "/opt/mcpmesh/bin/python"

# A user to whom no file of an image belongs.
NOBODY = 65532


@dataclass(frozen=True)
class HostPaths:
    """Where Docker has the folders that the agent sees: `mounts` maps the agent's paths to the host's."""

    mounts: Mapping[str, str]

    def find(self, path: Path) -> str | None:
        """The host's path of a folder that the agent sees, by the nearest mount; None where there is none."""
        for inside in sorted(self.mounts, key=len, reverse=True):
            if Path(inside) in (path, *path.parents):
                return str(Path(self.mounts[inside]) / path.relative_to(inside))
        return None


def key(instance: str) -> str:
    """A short name of an instance: the path of a socket has at most 108 bytes."""
    return hashlib.sha256(instance.encode()).hexdigest()[:16]


def folder(mark: Mark) -> str:
    """A container's part of the folder of sockets."""
    return f"{key(mark.instance)}-{mark.role}"


def name(prefix: str, mark: Mark) -> str:
    """A container's name. The prefix is the compose project; the instance's name begins with the mesh's."""
    return f"{prefix}-{mark.instance}-{mark.role}"


def labels(owner: str, mark: Mark, joined: str = "", image: str = "") -> dict[str, str]:
    """All labels of a container."""
    found = {"mcpmesh.mesh": mark.mesh, ROLE: mark.role, "mcpmesh.instance": mark.instance}
    found |= {"mcpmesh.service": mark.service, "mcpmesh.digest": mark.digest[:12]}
    found |= {name: value for name, value in ((JOINED, joined), (IMAGE, image)) if value}
    return {OWNER: owner, MARK: mark.dump(), **found}


def run_id(inspected: Mapping[str, Any]) -> str:
    """One run of a container, from start to end: started again, it has another network namespace."""
    return f"{inspected['Id']}@{inspected['State']['StartedAt']}"


def published_ports(listed: Mapping[str, Any], owner: str) -> Iterator[PublishedPort]:
    """The ports of the host that lead into a container, from Docker's list entry of it."""
    labels = listed.get("Labels") or {}
    name = str(listed["Names"][0]).lstrip("/")
    for port in listed.get("Ports") or ():
        if port.get("PublicPort"):
            ours, ingress = labels.get(OWNER) == owner, INGRESS in labels
            yield PublishedPort(name, str(port["IP"]), int(port["PublicPort"]), int(port["PrivatePort"]), ours, ingress)
