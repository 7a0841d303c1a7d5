"""What listens in the containers that compose runs beside the sidecars: Consul's, the ingress's, the agent's.

They may listen on loopback and on the ingress's network, where no server is.
Every server can reach a listener anywhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mcpmesh.model.observed_state import Unknown
from mcpmesh.verify.finding import Finding, fails, holds
from mcpmesh.verify.probes.listening_sockets import parse_table
from mcpmesh.verify.probes.network_namespaces import Namespaces
from mcpmesh.workload.runtime import Neighbour


def judge_neighbours(namespaces: Namespaces) -> list[Finding]:
    """A failure for each wrong listener, or one finding that holds for all; none where compose runs nothing."""
    neighbours = namespaces.neighbours
    if isinstance(neighbours, Unknown):
        return [fails(f"what else listens there can't be told: {neighbours.reason}", "see: docker compose ps")]
    # Our own Envoy in the ingress's namespace has claims of its own.
    ours = {inode for sockets in namespaces.each() for inode in sockets.holders}
    findings = [finding for neighbour in neighbours for finding in _failures(neighbour, ours)]
    if findings or not neighbours:
        return findings
    names = ", ".join(sorted(neighbour.container for neighbour in neighbours))
    return [holds(f"{names} listen on loopback and the ingress's network alone")]


def _failures(neighbour: Neighbour, ours: Collection[int]) -> Iterator[Finding]:
    if not neighbour.socket_table:
        step = f"see: docker exec {neighbour.container} cat /proc/net/tcp"
        yield fails(f"what listens in {neighbour.container} can't be told", step)
    for listener in parse_table(neighbour.socket_table, "tcp"):
        if (
            not listener.on_loopback
            and str(listener.address) != neighbour.ingress_address
            and listener.inode not in ours
        ):
            step = f"let it listen at {neighbour.ingress_address or '127.0.0.1'} alone, then: docker compose up -d"
            yield fails(f"{neighbour.container} listens at {listener}, which every server can reach", step)
