"""The claims about who listens: nothing beyond loopback but what was asked for, and nothing unexpected on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.model.service import Plain
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.verify.claims import compose_listeners
from mcpmesh.verify.finding import Finding, bad, good
from mcpmesh.verify.probes.listening_sockets import Listener
from mcpmesh.verify.snapshot import Facts
from mcpmesh.verify.target import AGENT, CONSUL, GATEWAY, KONG, LOOPBACK, SIDECAR, World
from mcpmesh.workload.runtime import PLAIN, SHIM

# A server's own look-ups in the DNS hold UDP ports for moments; these programs make none that way.
_UDP_ROLES = (AGENT, CONSUL, GATEWAY, SIDECAR, SHIM)


@dataclass(frozen=True)
class Held:
    """A listener and who holds it: `role` and `instance` are those of its mark, or of what it came from.

    `ports` are those that the mesh gave it; at `host` others of the mesh reach it.
    """

    listener: Listener
    pid: int
    name: str
    role: str
    instance: str
    service: str
    ports: frozenset[int]
    host: str = LOOPBACK


async def none_beyond_loopback(facts: Facts) -> list[Finding]:
    """Only what was asked for listens where other machines can reach it."""
    found = list(held(facts))
    beyond = [item for item in found if not item.listener.loopback]
    asked = [item for item in beyond if asked_for(facts.world, item)]
    findings = [_beyond(item) for item in beyond if item not in asked]
    told = f"{len(found) - len(beyond)} listeners of ours, all on loopback"
    ours = good(told + "".join(f", but {item.listener}, which was asked for" for item in asked))
    return [*(findings or [ours]), *compose_listeners.keep_to_the_edge(facts.ground)]


async def all_expected(facts: Facts) -> list[Finding]:
    """Every port that a process of ours holds is one that the mesh gave it."""
    elsewhere = declared_elsewhere(facts.world.desired)
    found = list(held(facts))
    findings = [_unexpected(item) for item in found if not expected(item, elsewhere)]
    return findings or [good(f"{len(found)} listeners of ours, each at a port that the mesh gave it")]


def held(facts: Facts) -> Iterator[Held]:
    """Every listener of a process with our mark, of what came from one, and of the agent."""
    marks: dict[int, Process] = {process.pid: process for process in facts.processes}
    upstreams = {
        process.mark.instance: _upstreams(process.mark)
        for process in facts.processes
        if process.mark.role in (SHIM, PLAIN)
    }
    if (ingress := facts.world.desired.ingress) and ingress.kong:
        upstreams[ingress.id] = frozenset(ingress.kong.ports.values())
    agent = os.getpid()
    pairs = ((sockets, listener) for sockets in facts.ground.each() for listener in sockets.listeners)
    for sockets, listener in pairs:
        for pid in sorted(sockets.holders.get(listener.inode, ())):
            nearest = facts.tree.ancestor_in(pid, {*marks, agent})
            if nearest is None:
                continue
            mark = marks[nearest].mark if nearest in marks else None
            role = mark.role if mark else AGENT
            if listener.protocol == "udp" and role not in _UDP_ROLES:
                continue
            yield Held(
                listener=listener,
                pid=pid,
                name=facts.tree.name(pid),
                role=role,
                instance=mark.instance if mark else "",
                service=mark.service if mark else "",
                ports=given(mark, upstreams.get(mark.instance, frozenset())) if mark else frozenset(),
                host=marks[nearest].host if nearest in marks else LOOPBACK,
            )


def asked_for(world: World, item: Held) -> bool:
    """Whether a listener beyond loopback is the ingress where it shall be, or a sidecar where others call it; pure."""
    ingress = world.desired.ingress
    if item.host != LOOPBACK and str(item.listener.address) == item.host:
        return item.role == SIDECAR and expected(item, frozenset())
    if ingress is None or item.role not in (GATEWAY, KONG) or item.listener.port != ingress.port:
        return False
    return str(item.listener.address) == ingress.registration["Address"] or not _is_loopback_name(world)


def _is_loopback_name(world: World) -> bool:
    host = world.settings.ingress.host
    return host == "localhost" or host.startswith("127.") or host == "::1"


def given(mark: Mark, upstreams: frozenset[int]) -> frozenset[int]:
    """The ports at which the process of this mark may listen; a program's mark also names its sidecar's; pure."""
    if mark.role in (SHIM, PLAIN):
        return frozenset({mark.ports["http"]})
    return frozenset(mark.ports.values()) | (upstreams if mark.role == SIDECAR else frozenset())


def _upstreams(mark: Mark) -> frozenset[int]:
    """What the Envoy of a program of this mark listens at, beside its own port."""
    return frozenset(port for key, port in mark.ports.items() if key == "check" or key.startswith("upstream:"))


def expected(item: Held, elsewhere: frozenset[int]) -> bool:
    """Whether the mesh gave this port to this process, or a service declares it as its address; pure."""
    if item.role == AGENT:  # its API, at a port that no mark names
        return item.listener.loopback and item.listener.protocol == "tcp"
    return item.listener.port in item.ports | elsewhere


def declared_elsewhere(desired: DesiredState) -> frozenset[int]:
    """Ports of services that the catalog declares by their address; pure."""
    starts = [wanted.spec.start for wanted in desired.services.values()]
    return frozenset(
        int(start.address.rpartition(":")[2]) for start in starts if isinstance(start, Plain) and start.address
    )


def _beyond(item: Held) -> Finding:
    step = f"make it listen at 127.0.0.1 (look for a host or bind option of {item.service or item.name})"
    if item.role in (GATEWAY, KONG):
        step = "set MCPMESH_INGRESS__HOST to where the ingress should listen, and start the mesh again"
    return bad(f"{_who(item)} listens at {item.listener}, which other machines can reach", step)


def _unexpected(item: Held) -> Finding:
    step = (
        f"whoever calls it there passes the mesh by: turn that listener off (options of {item.service}), or declare "
        f"it as a service of its own with its address; or end it: kill {item.pid}"
    )
    return bad(f"{_who(item)} listens at {item.listener}, a port that the mesh did not give it", step)


def _who(item: Held) -> str:
    return f"pid {item.pid} ({item.name}), {item.role} of {item.instance or 'this mesh'},"
