"""Claims about Kong, where it stands at the ingress."""

from __future__ import annotations

import httpx

from mcpmesh.errors import PeerError
from mcpmesh.ingress.kong.kong_admin import OwnedService
from mcpmesh.kit.marked_process import Process
from mcpmesh.plan.desired_state import DesiredIngress, DesiredKong
from mcpmesh.verify.claims.sidecars import holder
from mcpmesh.verify.finding import CannotTry, Finding, bad, good
from mcpmesh.verify.snapshot import Facts
from mcpmesh.verify.target import KONG, LOOPBACK, SIDECAR

# What the rendered fields and the way of posting were made for.
_MAJOR = "3."
_TESTED = "3.9"


def holds_port(facts: Facts, wanted: DesiredIngress, host: str) -> Finding:
    """Whether the ingress's port is held by Kong alone, by the kernel's word."""
    if facts.world.runtime.isolated:
        return _holds_it_in_its_container(facts, wanted, host)
    kongs = {process.pid for process in facts.of(wanted.id, KONG)}
    pids = facts.sockets.holding(host, wanted.port)
    strangers = sorted(pid for pid in pids if facts.tree.ancestor_in(pid, kongs) is None)
    trouble, step = facts.ingress_trouble()
    if not pids:
        return bad(f"port {wanted.port} of {wanted.id} is held by nobody that we know; {trouble}", step)
    if strangers:
        names = ", ".join(f"pid {pid} ({facts.tree.name(pid)})" for pid in strangers)
        return bad(f"port {wanted.port} of {wanted.id} is held by {names}; {trouble}", f"end what holds it; {step}")
    return good(f"{host}:{wanted.port} is held by Kong, pid {min(pids)}, below {min(kongs)}")


def _holds_it_in_its_container(facts: Facts, wanted: DesiredIngress, host: str) -> Finding:
    """Nobody but Kong and the Envoy beside it is in that namespace."""
    found = facts.ground.of(wanted.id)
    _, step = facts.ingress_trouble()
    here = [each for each in found.listeners if each.port == wanted.port and each.protocol == "tcp"]
    if not here:
        return bad(f"port {wanted.port} of {wanted.id} is held by nobody that its Envoy can see", step)
    if envoys := {pid for each in here for pid in found.holders.get(each.inode, ())}:
        return bad(f"port {wanted.port} of {wanted.id} is held by its Envoy (pid {min(envoys)})", step)
    if elsewhere := [each for each in here if str(each.address) != host]:
        return bad(f"Kong listens at {elsewhere[0]}, which servers can reach", f"let it listen at {host} alone; {step}")
    return good(f"{host}:{wanted.port} is held by Kong, beside its Envoy")


async def goes_by_our_document(facts: Facts) -> list[Finding]:
    """The document that Kong goes by is, to the last letter, what the agent would hand it for where it leads."""
    edge = _wanted(facts)[1]
    url = _address(facts)
    kong = facts.world.kong
    assert kong is not None
    try:
        found, services = await kong.admin.hash(url), await kong.admin.services(url, facts.world.mesh)
    except PeerError as error:
        return [bad(str(error), facts.ingress_trouble()[1])]
    leads = sorted(services.keys() & edge.ports.keys())
    if edge.document(leads).hash == found:
        return [good(f"Kong at {url} has it, {found[:12]}, with routes to {', '.join(leads) or 'no service'}")]
    return [bad(f"Kong at {url} goes by another document, {found[:12]}{_unlike(edge, services)}", _mended(facts))]


def _unlike(edge: DesiredKong, services: dict[str, OwnedService]) -> str:
    """Where it differs, as far as its services tell."""
    missing = sorted(edge.ports.keys() - services.keys())
    strange = sorted(services.keys() - edge.ports.keys())
    moved = sorted(name for name, port in edge.ports.items() if name in services and services[name].port != port)
    told = [f"without {', '.join(missing)}"] if missing else []
    told += [f"with {', '.join(strange)}, which nobody wants"] if strange else []
    told += [f"with another port of {', '.join(moved)}"] if moved else []
    return f": {'; '.join(told)}" if told else ""


async def admin_is_private(facts: Facts) -> list[Finding]:
    """Nobody but this machine reaches the Admin API of Kong; in containers, not even the servers and sidecars do."""
    wanted, _ = _wanted(facts)
    if not facts.world.runtime.isolated:
        process = _process(facts, wanted)
        port, edge, whose = process.mark.ports["admin"], LOOPBACK, f"a kong.conf of pid {process.pid}"
    else:
        port, edge, whose = httpx.URL(_address(facts)).port or 80, str(wanted.registration["Address"]), "its container"
    listeners = [item for item in facts.ground.of(wanted.id).listeners if (item.port, item.protocol) == (port, "tcp")]
    if not listeners:
        return [bad(f"nobody listens at port {port}, where Kong's Admin API should be", facts.ingress_trouble()[1])]
    beyond = [item for item in listeners if not item.loopback and str(item.address) != edge]
    if beyond:
        step = f"look for admin_listen in the environment or {whose}, and end that one"
        return [bad(f"Kong's Admin API listens at {beyond[0]}, where others can reach it", step)]
    return [good(f"it listens at {listeners[0]}")]


async def sidecar_listens(facts: Facts) -> list[Finding]:
    """For each routed service the ingress's own sidecar, and nobody else, holds the port where Kong looks for it."""
    wanted, edge = _wanted(facts)
    if not facts.of(wanted.id, SIDECAR):
        return [bad("no sidecar of the ingress runs", facts.envoy_trouble(wanted.id, SIDECAR)[1])]
    if not edge.ports:
        return [good("no service has a route")]
    return [holder(facts, wanted.id, SIDECAR, port, LOOPBACK) for _, port in sorted(edge.ports.items())]


async def version_supported(facts: Facts) -> list[Finding]:
    """The Kong that answers is of the line that the mesh was made for."""
    url, kong = _address(facts), facts.world.kong
    assert kong is not None
    try:
        found = await kong.admin.version(url)
    except PeerError as error:
        return [bad(str(error), facts.ingress_trouble()[1])]
    told = f"Kong at {url} is {found}, made for is {_MAJOR}x, tried is {_TESTED}"
    return [good(told) if found.startswith(_MAJOR) else bad(told, "run a Kong 3, and name it: MCPMESH_KONG__BINARY")]


def _wanted(facts: Facts) -> tuple[DesiredIngress, DesiredKong]:
    wanted = facts.world.desired.ingress
    if wanted is None or wanted.kong is None:
        raise CannotTry("no ingress is wanted: this mesh is going down", facts.world.mcpmesh("status"))
    return wanted, wanted.kong


def _process(facts: Facts, wanted: DesiredIngress) -> Process:
    found = facts.of(wanted.id, KONG)
    if not found:
        raise CannotTry(*facts.ingress_trouble())
    return found[0]


def _address(facts: Facts) -> str:
    kong = facts.world.kong
    assert kong is not None
    if kong.url is not None:
        return kong.url
    process = _process(facts, _wanted(facts)[0])
    return f"http://{process.private_address('admin')}"


def _mended(facts: Facts) -> str:
    return f"{facts.world.mended_by_agent}; what it should have: {facts.world.mcpmesh('ingress render')}"
