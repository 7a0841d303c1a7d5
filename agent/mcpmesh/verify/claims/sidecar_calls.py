"""Claims about calls inside the mesh: through each sidecar, and from a service to its upstreams."""

from __future__ import annotations

import ssl

from mcpmesh.consul.registration import LOOPBACK
from mcpmesh.errors import Refused
from mcpmesh.mcp.mcp_client import Forbidden
from mcpmesh.mcp.through_sidecar import SidecarAddress, connect_through
from mcpmesh.model.reserved_names import AGENT_IDENTITY
from mcpmesh.model.service import Protocol, ServiceSpec, Upstream
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.claims.access_policy import tcp_denial
from mcpmesh.verify.claims.call_verdict import intention_for, judged_call
from mcpmesh.verify.claims.intentions import DENY
from mcpmesh.verify.claims.port_holder import judge_holder
from mcpmesh.verify.claims.sidecars import at_each_sidecar
from mcpmesh.verify.finding import CannotTry, Finding
from mcpmesh.verify.probes import service_calls
from mcpmesh.verify.probes.call_in_namespace import call_from
from mcpmesh.verify.probes.tcp_probe import Outcome, probe
from mcpmesh.verify.process_roles import SIDECAR
from mcpmesh.verify.snapshot import InstanceView, Snapshot, require_known
from mcpmesh.verify.time_limits import ANSWER_SECONDS

_SECONDS = service_calls.TOOLS_SECONDS + ANSWER_SECONDS
# A connection to a TCP service whose instance is dead is closed at once. Otherwise it stays open.
_HOLD_SECONDS = 0.3
_STAYS_OPEN = "a connection opens and stays open"


async def answered_through_sidecars(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """The agent's identity, which every service allows, makes a real call to each instance through its sidecar."""
    tls = require_known(snapshot.agent_identity, snapshot.target).ssl_context()

    async def judge(instance: InstanceView) -> Finding:
        sidecar = snapshot.sidecar_of(instance)

        async def call() -> str:
            await connect_through(tls, sidecar, ANSWER_SECONDS)
            return (
                f"{await _call_instance(snapshot, instance, tls, sidecar)} through the sidecar at port {sidecar.port}"
            )

        return await judged_call(snapshot, AGENT_IDENTITY, wanted.spec.name, call)

    return await at_each_sidecar(snapshot, wanted, judge, _SECONDS)


async def _call_instance(
    snapshot: Snapshot, instance: InstanceView, tls: ssl.SSLContext, sidecar: SidecarAddress
) -> str:
    spec = instance.wanted.spec
    if spec.is_mcp:
        return await service_calls.list_tools_through(tls, sidecar, instance.shim_address, snapshot.http)
    if spec.protocol is not Protocol.TCP:
        return await service_calls.get_through(tls, sidecar, spec.health.proof_path)
    await connect_through(tls, sidecar, ANSWER_SECONDS, hold_seconds=_HOLD_SECONDS)
    intention = intention_for(snapshot, AGENT_IDENTITY, spec.name)
    if intention is not None and intention.action == DENY:
        # Where it is denied, the connection ends only when the first byte is sent.
        reply, refused = await tcp_denial(snapshot, instance, tls)
        if refused:
            raise Forbidden(f"port {sidecar.port}: {reply.text}")
    return _STAYS_OPEN


async def upstream_is_answered(snapshot: Snapshot, wanted: DesiredService, upstream: Upstream) -> list[Finding]:
    """Each instance reaches its upstream at the port that it was given, which its own sidecar holds."""
    called = snapshot.target.desired.services.get(upstream.service)

    async def judge(instance: InstanceView) -> Finding:
        port = next((p.mark.ports.get(f"upstream:{upstream.service}") for p in instance.programs), None)
        if port is None:
            raise CannotTry(f"no process of ours runs for {instance.id}", snapshot.target.agent_repairs)
        held = judge_holder(snapshot, instance.id, SIDECAR, port)
        if not held.ok or called is None:
            return held

        async def call() -> str:
            seen = await _call_upstream(snapshot, called.spec, port, instance)
            return f"{seen} at {LOOPBACK}:{port}, as {instance.id} finds it"

        return await judged_call(snapshot, wanted.spec.name, upstream.service, call)

    return await at_each_sidecar(snapshot, wanted, judge, _SECONDS)


async def _call_upstream(snapshot: Snapshot, called: ServiceSpec, port: int, instance: InstanceView) -> str:
    """A call to an upstream's port carries the identity of the service whose sidecar listens there."""
    if called.protocol is Protocol.TCP:
        # The sidecar accepts in any case. It closes the connection where no instance takes it.
        reply = await probe(LOOPBACK, port, tls=None, payload=b"", hold_seconds=_HOLD_SECONDS)
        if reply.outcome not in (Outcome.ANSWERED, Outcome.SILENT):
            raise Refused(f"{LOOPBACK}:{port}: {reply.text}")
        return _STAYS_OPEN
    url = f"http://{LOOPBACK}:{port}{'/mcp' if called.is_mcp else called.health.proof_path}"
    if snapshot.target.runtime.isolated:
        return await call_from(snapshot.target.runtime, instance.envoys[0], url, mcp=called.is_mcp)
    if called.is_mcp:
        # Several instances may answer, so the list is not compared with that of one shim.
        return await service_calls.list_tools(snapshot.http, url, None)
    return await service_calls.get(snapshot.http, url)
