"""Claims about listeners: beyond loopback only what was asked for, and all at ports that the mesh gave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from mcpmesh.consul.registration import LOOPBACK
from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.model.service import Plain
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.verify.claims.compose_listeners import judge_neighbours
from mcpmesh.verify.finding import Finding, fails, holds
from mcpmesh.verify.probes.listening_sockets import Listener
from mcpmesh.verify.process_roles import AGENT, CONSUL, GATEWAY, KONG, PLAIN, SHIM, SIDECAR
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.verify.target import Target

# A server's look-ups in the DNS hold UDP ports for moments. These programs make no look-ups that way.
_UDP_ROLES = (AGENT, CONSUL, GATEWAY, SIDECAR, SHIM)


@dataclass(frozen=True)
class HeldListener:
    """A listener and the process that holds it.

    `role`, `instance` and `service` are those of the process's mark, or of the marked process that started it.
    `ports` are those that the mesh gave it. Other instances of the mesh reach it at `host`.
    """

    listener: Listener
    pid: int
    name: str
    role: str
    instance: str
    service: str
    ports: frozenset[int]
    host: str = LOOPBACK


async def none_beyond_loopback(snapshot: Snapshot) -> list[Finding]:
    """Only what was asked for listens where other machines can reach it."""
    listeners = list(held_listeners(snapshot))
    exposed = [held for held in listeners if not held.listener.on_loopback]
    asked_for = [held for held in exposed if is_asked_for(snapshot.target, held)]
    findings = [_exposed(held) for held in exposed if held not in asked_for]
    if not findings:
        evidence = f"{len(listeners) - len(exposed)} listeners of ours, all on loopback"
        findings = [holds(evidence + "".join(f", but {held.listener}, which was asked for" for held in asked_for))]
    return [*findings, *judge_neighbours(snapshot.namespaces)]


async def all_at_given_ports(snapshot: Snapshot) -> list[Finding]:
    """Every port that a process of ours holds is one that the mesh gave it."""
    declared = declared_ports(snapshot.target.desired)
    listeners = list(held_listeners(snapshot))
    findings = [_not_given(held) for held in listeners if not is_expected(held, declared)]
    return findings or [holds(f"{len(listeners)} listeners of ours, each at a port that the mesh gave it")]


def held_listeners(snapshot: Snapshot) -> Iterator[HeldListener]:
    """Every listener of a process with our mark, of what it started, and of this agent."""
    marked: dict[int, Process] = {process.pid: process for process in snapshot.processes}
    upstreams = _upstream_ports_by_instance(snapshot)
    agent = os.getpid()
    for sockets in snapshot.namespaces.each():
        for listener in sockets.listeners:
            for pid in sorted(sockets.holders.get(listener.inode, ())):
                nearest = snapshot.process_tree.nearest(pid, {*marked, agent})
                if nearest is None:
                    continue
                process = marked.get(nearest)
                held = _held(listener, pid, snapshot.process_tree.name(pid), process, upstreams)
                if listener.protocol != "udp" or held.role in _UDP_ROLES:
                    yield held


def _held(
    listener: Listener, pid: int, name: str, process: Process | None, upstreams: dict[str, frozenset[int]]
) -> HeldListener:
    if process is None:
        return HeldListener(listener, pid, name, AGENT, "", "", frozenset())
    mark = process.mark
    ports = given_ports(mark, upstreams.get(mark.instance, frozenset()))
    return HeldListener(listener, pid, name, mark.role, mark.instance, mark.service, ports, process.host)


def _upstream_ports_by_instance(snapshot: Snapshot) -> dict[str, frozenset[int]]:
    """The ports at which each instance's Envoy listens for it: for its upstreams, for Consul's check, for Kong."""
    ports = {
        process.mark.instance: frozenset(
            port for key, port in process.mark.ports.items() if key == "check" or key.startswith("upstream:")
        )
        for process in snapshot.processes
        if process.mark.role in (SHIM, PLAIN)
    }
    ingress = snapshot.target.desired.ingress
    if ingress and ingress.kong:
        ports[ingress.id] = frozenset(ingress.kong.ports.values())
    return ports


def given_ports(mark: Mark, upstreams: frozenset[int]) -> frozenset[int]:
    """The ports at which the process of this mark may listen. A program's mark also names its sidecar's ports."""
    if mark.role in (SHIM, PLAIN):
        return frozenset({mark.ports["http"]})
    return frozenset(mark.ports.values()) | (upstreams if mark.role == SIDECAR else frozenset())


def is_asked_for(target: Target, held: HeldListener) -> bool:
    """Whether a listener beyond loopback is the ingress at its wanted place, or a sidecar where others call it."""
    ingress = target.desired.ingress
    address = str(held.listener.address)
    if held.host != LOOPBACK and address == held.host:
        return held.role == SIDECAR and is_expected(held, frozenset())
    if ingress is None or held.role not in (GATEWAY, KONG) or held.listener.port != ingress.port:
        return False
    return address == ingress.registration["Address"] or not _is_loopback_name(target.settings.ingress.host)


def _is_loopback_name(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def is_expected(held: HeldListener, declared: frozenset[int]) -> bool:
    """Whether the mesh gave this port to this process, or a service declares it as its address."""
    if held.role == AGENT:  # its API, at a port that no mark names
        return held.listener.on_loopback and held.listener.protocol == "tcp"
    return held.listener.port in held.ports | declared


def declared_ports(desired: DesiredState) -> frozenset[int]:
    """The ports of services that the catalog declares by their address."""
    starts = [wanted.spec.start for wanted in desired.services.values()]
    return frozenset(
        int(start.address.rpartition(":")[2]) for start in starts if isinstance(start, Plain) and start.address
    )


def _exposed(held: HeldListener) -> Finding:
    step = f"make it listen at 127.0.0.1 (look for a host or bind option of {held.service or held.name})"
    if held.role in (GATEWAY, KONG):
        step = "set MCPMESH_INGRESS__HOST to where the ingress should listen, and start the mesh again"
    return fails(f"{_process_text(held)} listens at {held.listener}, which other machines can reach", step)


def _not_given(held: HeldListener) -> Finding:
    step = (
        f"a call to it there bypasses the mesh: turn that listener off (options of {held.service}), or declare "
        f"it as a service of its own with its address; or end it: kill {held.pid}"
    )
    return fails(f"{_process_text(held)} listens at {held.listener}, a port that the mesh did not give it", step)


def _process_text(held: HeldListener) -> str:
    return f"pid {held.pid} ({held.name}), {held.role} of {held.instance or 'this mesh'},"
