"""Claims about a service's sidecars: which process they are, their identity, and the callers that they refuse."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

from mcpmesh.mcp.through_sidecar import connect_through
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.attempts import try_each
from mcpmesh.verify.claims.port_holder import judge_holder
from mcpmesh.verify.finding import Diagnosis, Finding, fails, holds
from mcpmesh.verify.probes.foreign_certificate import bare_context
from mcpmesh.verify.probes.tcp_probe import Outcome, Reply, get_request, probe
from mcpmesh.verify.process_roles import SIDECAR
from mcpmesh.verify.snapshot import InstanceView, Snapshot, require_known
from mcpmesh.verify.time_limits import ANSWER_SECONDS

# Connecting, the handshake and reading have a limit each.
_SECONDS = 3 * ANSWER_SECONDS


async def port_is_envoys(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """The sidecar's registered port is held by the Envoy with that instance's mark, and by no other process."""

    async def judge(instance: InstanceView) -> Finding:
        sidecar = snapshot.sidecar_of(instance)
        return judge_holder(snapshot, instance.id, SIDECAR, sidecar.port, sidecar.host)

    return await at_each_sidecar(snapshot, wanted, judge)


async def proves_identity(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """The sidecar shows a certificate with the service's SPIFFE id, issued by Consul's CA."""
    tls = require_known(snapshot.agent_identity, snapshot.target).ssl_context()

    async def connect(instance: InstanceView) -> Finding:
        sidecar = snapshot.sidecar_of(instance)
        certificate = await connect_through(tls, sidecar, ANSWER_SECONDS)
        until = certificate.get("notAfter", "an unknown time")
        return holds(f"port {sidecar.port} proves to be {sidecar.spiffe_id}, by Consul's CA, until {until}")

    return await at_each_sidecar(snapshot, wanted, connect)


async def refuses_plain_text(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """A request in plain text gets no answer."""
    return await _refuses(snapshot, wanted, None, "plain text")


async def refuses_no_certificate(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """A caller that shows no certificate gets no answer."""
    return await _refuses(snapshot, wanted, bare_context(), "a caller without a certificate")


async def refuses_foreign_certificate(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """A caller gets no answer if its certificate names an allowed identity but comes from another CA."""
    return await _refuses(snapshot, wanted, snapshot.foreign_context, "a certificate of another CA")


async def _refuses(
    snapshot: Snapshot, wanted: DesiredService, tls: ssl.SSLContext | None, caller: str
) -> list[Finding]:
    async def call(instance: InstanceView) -> Finding:
        sidecar = snapshot.sidecar_of(instance)
        reply = await probe(sidecar.host, sidecar.port, tls=tls, payload=get_request("/"))
        return judge_refusal(reply, caller, f"port {sidecar.port}", snapshot.diagnose_envoy(instance.id))

    return await at_each_sidecar(snapshot, wanted, call)


def judge_refusal(reply: Reply, caller: str, place: str, diagnosis: Diagnosis) -> Finding:
    """Only a connection that was ended is a refusal. Silence proves nothing."""
    if reply.outcome is Outcome.CLOSED:
        return holds(f"{place} refuses {caller}: {reply.text}")
    if reply.outcome is Outcome.ANSWERED:
        return fails(f"{place} answers {caller}: {reply.text}; {diagnosis.state}", diagnosis.next_step)
    return fails(
        f"whether {place} refuses {caller} can't be told: {reply.text}; {diagnosis.state}", diagnosis.next_step
    )


async def at_each_sidecar(
    snapshot: Snapshot,
    wanted: DesiredService,
    probe: Callable[[InstanceView], Awaitable[Finding]],
    seconds: float = _SECONDS,
) -> list[Finding]:
    """One finding for each instance; a probe that fails is reported with the state of the instance's Envoy."""
    instances = snapshot.instances_of(wanted)
    return await try_each(instances, probe, seconds, lambda instance: snapshot.diagnose_envoy(instance.id))
