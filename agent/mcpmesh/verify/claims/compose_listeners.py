"""What listens in the containers that compose runs beside the sidecars: Consul's, the ingress's, the agent's.

They may do so on loopback and on the ingress's network, which servers are not
on; a listener anywhere else can be reached by every server.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcpmesh.model.observed_state import Unknown
from mcpmesh.verify.finding import Finding, bad, good
from mcpmesh.verify.probes.listening_sockets import parse
from mcpmesh.verify.probes.namespaces import Ground
from mcpmesh.workload.runtime import Neighbour


def keep_to_the_edge(ground: Ground) -> list[Finding]:
    """A finding for each that does not, or one for all of them; none where there are no neighbours."""
    if isinstance(ground.neighbours, Unknown):
        return [bad(f"what else listens there can't be told: {ground.neighbours.reason}", "see: docker compose ps")]
    # Our own Envoy in the ingress's namespace has claims of its own.
    ours = {inode for sockets in ground.each() for inode in sockets.holders}
    findings = [finding for each in ground.neighbours for finding in _wrong(each, ours)]
    if findings or not ground.neighbours:
        return findings
    names = ", ".join(sorted(each.container for each in ground.neighbours))
    return [good(f"{names} listen on loopback and the ingress's network alone")]


def _wrong(each: Neighbour, ours: set[int]) -> Iterator[Finding]:
    if not each.socket_table:
        step = f"see: docker exec {each.container} cat /proc/net/tcp"
        yield bad(f"what listens in {each.container} can't be told", step)
    for listener in parse(each.socket_table, "tcp"):
        if not listener.loopback and str(listener.address) != each.ingress_address and listener.inode not in ours:
            step = f"let it listen at {each.ingress_address or '127.0.0.1'} alone, then: docker compose up -d"
            yield bad(f"{each.container} listens at {listener}, which every server can reach", step)
