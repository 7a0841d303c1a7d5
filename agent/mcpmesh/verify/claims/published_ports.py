"""The claim that containers publish nothing but the ingress, and what only this machine reaches."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from mcpmesh.verify.finding import CannotTry, Finding, fails, holds
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.workload.runtime import PublishedPort


async def only_the_ingress(snapshot: Snapshot) -> list[Finding]:
    """Judges each port of the host that leads into a container of the mesh, or of the mesh's compose project."""
    ingress = snapshot.target.desired.ingress
    if ingress is None:
        raise CannotTry("no ingress is wanted: this mesh is going down", snapshot.target.mcpmesh_command("status"))
    return judge_published(await snapshot.target.runtime.published_ports(), ingress.port)


def judge_published(published: Sequence[PublishedPort], ingress_port: int) -> list[Finding]:
    """A failure for each port that may not be published, or one finding that holds for all."""
    failures = [
        fails(
            f"port {port.container_port} of {port.container} is published at {port.host}:{port.port}",
            "remove that port from the compose file, or publish it at 127.0.0.1, then: docker compose up -d",
        )
        for port in published
        if not may_be_published(port, ingress_port)
    ]
    names = ", ".join(f"{port.container} at {port.host}:{port.port}" for port in published)
    return failures or [holds(f"published: {names or 'nothing'}")]


def may_be_published(port: PublishedPort, ingress_port: int) -> bool:
    """Whether it is the ingress's own port, or one of the compose project for this machine alone."""
    if port.ingress and port.container_port == ingress_port:
        return True
    return not port.ours and ipaddress.ip_address(port.host).is_loopback
