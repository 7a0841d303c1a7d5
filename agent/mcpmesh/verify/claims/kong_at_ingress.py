"""Claims about Kong, where it is the ingress."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from mcpmesh.consul.registration import LOOPBACK
from mcpmesh.errors import PeerError
from mcpmesh.ingress.kong.kong_admin import OwnedService
from mcpmesh.kit.marked_process import Process
from mcpmesh.plan.desired_state import DesiredIngress, DesiredKong
from mcpmesh.verify.claims.port_holder import judge_holder
from mcpmesh.verify.finding import CannotTry, Finding, fails, holds
from mcpmesh.verify.process_roles import KONG, SIDECAR
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.verify.target import KongAtIngress

# The mesh's documents, and the way they are posted, are made for this version.
_MAJOR = "3."
_TESTED = "3.9"


def judge_port_holder(snapshot: Snapshot, wanted: DesiredIngress, host: str) -> Finding:
    """Whether Kong alone holds the ingress's port, by the kernel's tables."""
    if snapshot.target.runtime.isolated:
        return _judge_port_holder_in_container(snapshot, wanted, host)
    tree = snapshot.process_tree
    kongs = {process.pid for process in snapshot.processes_of(wanted.id, KONG)}
    holders = snapshot.host_sockets.holders_of(host, wanted.port)
    strangers = sorted(pid for pid in holders if tree.nearest(pid, kongs) is None)
    state, next_step = snapshot.diagnose_ingress()
    if not holders:
        return fails(f"port {wanted.port} of {wanted.id} is held by no process that we can see; {state}", next_step)
    if strangers:
        names = ", ".join(f"pid {pid} ({tree.name(pid)})" for pid in strangers)
        return fails(
            f"port {wanted.port} of {wanted.id} is held by {names}; {state}", f"end what holds it; {next_step}"
        )
    return holds(f"{host}:{wanted.port} is held by Kong, pid {min(holders)}, below {min(kongs)}")


def _judge_port_holder_in_container(snapshot: Snapshot, wanted: DesiredIngress, host: str) -> Finding:
    """In that network namespace are Kong and its Envoy alone: what the Envoy does not hold, Kong holds."""
    sockets = snapshot.namespaces.of(wanted.id)
    next_step = snapshot.diagnose_ingress().next_step
    at_port = sockets.tcp_listeners(wanted.port)
    if not at_port:
        return fails(f"port {wanted.port} of {wanted.id} is held by no process that its Envoy can see", next_step)
    if envoys := {pid for listener in at_port for pid in sockets.holders.get(listener.inode, ())}:
        return fails(f"port {wanted.port} of {wanted.id} is held by its Envoy (pid {min(envoys)})", next_step)
    if elsewhere := [listener for listener in at_port if str(listener.address) != host]:
        evidence = f"Kong listens at {elsewhere[0]}, which servers can reach"
        return fails(evidence, f"let it listen at {host} alone; {next_step}")
    return holds(f"{host}:{wanted.port} is held by Kong, in the network namespace of its Envoy")


async def uses_our_document(snapshot: Snapshot) -> list[Finding]:
    """Kong's configuration is, by its hash, the document that the agent would post for the routes that Kong has."""
    wanted_kong = _wanted(snapshot)[1]
    kong, url = _kong(snapshot), _admin_url(snapshot)
    try:
        hash_, services = await kong.admin.hash(url), await kong.admin.services(url, snapshot.target.mesh)
    except PeerError as error:
        return [fails(str(error), snapshot.diagnose_ingress().next_step)]
    routed = sorted(services.keys() & wanted_kong.ports.keys())
    if wanted_kong.document(routed).hash == hash_:
        return [holds(f"Kong at {url} has it, {hash_[:12]}, with routes to {', '.join(routed) or 'no service'}")]
    step = f"{snapshot.target.agent_repairs}; what it should have: {snapshot.target.mcpmesh_command('ingress render')}"
    return [fails(f"Kong at {url} has another document, {hash_[:12]}{differences(wanted_kong.ports, services)}", step)]


def differences(ports: Mapping[str, int], services: Mapping[str, OwnedService]) -> str:
    """How Kong's services differ from the wanted ones (`ports`); "" where they don't: the rest is not visible."""
    missing = sorted(ports.keys() - services.keys())
    surplus = sorted(services.keys() - ports.keys())
    moved = sorted(name for name in ports.keys() & services.keys() if services[name].port != ports[name])
    parts = [f"without {', '.join(missing)}"] if missing else []
    parts += [f"with unwanted {', '.join(surplus)}"] if surplus else []
    parts += [f"with another port of {', '.join(moved)}"] if moved else []
    return f": {'; '.join(parts)}" if parts else ""


async def admin_api_is_private(snapshot: Snapshot) -> list[Finding]:
    """Only this machine reaches Kong's Admin API. In containers, servers and sidecars don't reach it either."""
    wanted, _ = _wanted(snapshot)
    if not snapshot.target.runtime.isolated:
        process = _process(snapshot, wanted)
        port, allowed, place = process.mark.ports["admin"], LOOPBACK, f"a kong.conf of pid {process.pid}"
    else:
        port, allowed = urlsplit(_admin_url(snapshot)).port or 80, str(wanted.registration["Address"])
        place = "its container"
    listeners = snapshot.namespaces.of(wanted.id).tcp_listeners(port)
    if not listeners:
        evidence = f"nothing listens at port {port}, where Kong's Admin API should be"
        return [fails(evidence, snapshot.diagnose_ingress().next_step)]
    exposed = [listener for listener in listeners if not listener.on_loopback and str(listener.address) != allowed]
    if exposed:
        step = f"look for admin_listen in the environment or {place}, and end that one"
        return [fails(f"Kong's Admin API listens at {exposed[0]}, where others can reach it", step)]
    return [holds(f"it listens at {listeners[0]}")]


async def sidecar_listens(snapshot: Snapshot) -> list[Finding]:
    """For each service with a route, the ingress's own sidecar alone holds the port that Kong calls."""
    wanted, wanted_kong = _wanted(snapshot)
    if not snapshot.processes_of(wanted.id, SIDECAR):
        return [fails("no sidecar of the ingress runs", snapshot.diagnose_envoy(wanted.id).next_step)]
    if not wanted_kong.ports:
        return [holds("no service has a route")]
    return [judge_holder(snapshot, wanted.id, SIDECAR, port) for _, port in sorted(wanted_kong.ports.items())]


async def version_is_supported(snapshot: Snapshot) -> list[Finding]:
    """The Kong that answers is of the major version that the mesh is made for."""
    url = _admin_url(snapshot)
    try:
        version = await _kong(snapshot).admin.version(url)
    except PeerError as error:
        return [fails(str(error), snapshot.diagnose_ingress().next_step)]
    return [judge_version(url, version)]


def judge_version(url: str, version: str) -> Finding:
    """`version` is that of the Kong whose Admin API is at `url`."""
    evidence = f"Kong at {url} is {version}; supported is {_MAJOR}x, tested is {_TESTED}"
    if version.startswith(_MAJOR):
        return holds(evidence)
    return fails(evidence, "run a Kong 3, and name it: MCPMESH_KONG__BINARY")


def _wanted(snapshot: Snapshot) -> tuple[DesiredIngress, DesiredKong]:
    wanted = snapshot.target.desired.ingress
    if wanted is None or wanted.kong is None:
        raise CannotTry("no ingress is wanted: this mesh is going down", snapshot.target.mcpmesh_command("status"))
    return wanted, wanted.kong


def _process(snapshot: Snapshot, wanted: DesiredIngress) -> Process:
    found = snapshot.processes_of(wanted.id, KONG)
    if not found:
        raise CannotTry(*snapshot.diagnose_ingress())
    return found[0]


def _kong(snapshot: Snapshot) -> KongAtIngress:
    kong = snapshot.target.kong
    assert kong is not None  # else none of these claims is made
    return kong


def _admin_url(snapshot: Snapshot) -> str:
    url = _kong(snapshot).url
    if url is not None:
        return url
    process = _process(snapshot, _wanted(snapshot)[0])
    return f"http://{process.private_address('admin')}"
