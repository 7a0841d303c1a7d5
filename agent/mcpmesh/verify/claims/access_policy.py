"""Claims about who may call a service: declared callers have their intention, and all others are refused."""

from __future__ import annotations

import ssl
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus

from mcpmesh.model.observed_state import Intention
from mcpmesh.model.reserved_names import STRANGER_IDENTITY
from mcpmesh.model.service import Protocol
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.claims.call_verdict import intention_for
from mcpmesh.verify.claims.intentions import ANY, DENY, exact_intention, pair
from mcpmesh.verify.claims.sidecars import at_each_sidecar
from mcpmesh.verify.finding import CannotTry, Diagnosis, Finding, fails, holds
from mcpmesh.verify.probes.denied_connection import probe_denial
from mcpmesh.verify.probes.tcp_probe import Outcome, Reply, get_request, probe
from mcpmesh.verify.snapshot import InstanceView, Snapshot, require_known
from mcpmesh.verify.target import Target


async def intention_is_declared(snapshot: Snapshot, wanted: DesiredService, source: str) -> list[Finding]:
    """Consul has the intention for one caller that the catalog names, or what a user wrote for that pair."""
    present = require_known(snapshot.intentions, snapshot.target)
    intention = exact_intention(present, source, wanted.spec.name)
    return [judge_declared(snapshot.target, intention, source, wanted.spec.name)]


def judge_declared(target: Target, intention: Intention | None, source: str, service: str) -> Finding:
    """The intention for the very pair has to be there. What a user wrote is kept, whether it allows or denies."""
    if intention is None:
        by_hand = target.consul_command("intention create", f"-allow {source} {service}")
        return fails(f"Consul has no intention {source} => {service}", f"{target.agent_repairs}; by hand: {by_hand}")
    if intention.owner == target.mesh:
        return holds(f"Consul has {pair(intention)} ({intention.action}), written by this mesh")
    author = f"mesh {intention.owner}" if intention.owner else "a person"
    return holds(f"Consul has {pair(intention)} ({intention.action}), written by {author}, and it is kept")


async def stranger_is_refused(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """Each sidecar refuses an identity of the mesh's own CA that no intention names."""
    tls = require_known(snapshot.stranger_identity, snapshot.target).ssl_context()

    async def call(instance: InstanceView) -> Finding:
        sidecar = snapshot.sidecar_of(instance)
        if wanted.spec.protocol is Protocol.TCP:
            reply, refused = await tcp_denial(snapshot, instance, tls)
            let_in = reply.opened
        else:
            reply = await probe(sidecar.host, sidecar.port, tls=tls, payload=get_request("/mcp"))
            refused = reply.status == HTTPStatus.FORBIDDEN and not reply.forwarded
            let_in = reply.outcome is Outcome.ANSWERED
        attempt = StrangerAttempt(
            f"port {sidecar.port}", reply.text, refused, let_in, snapshot.diagnose_envoy(instance.id)
        )
        intention = intention_for(snapshot, STRANGER_IDENTITY, wanted.spec.name)
        return judge_stranger(snapshot.target, attempt, intention, wanted.allow)

    return await at_each_sidecar(snapshot, wanted, call)


async def tcp_denial(snapshot: Snapshot, instance: InstanceView, tls: ssl.SSLContext) -> tuple[Reply, bool]:
    """As `probe_denial`, at the sidecar of an instance; CannotTry where its Envoy does not run."""
    if not instance.envoys:
        raise CannotTry(*snapshot.diagnose_envoy(instance.id))
    admin_address = instance.envoys[0].private_address("admin")
    return await probe_denial(snapshot.http, admin_address, snapshot.sidecar_of(instance), tls)


@dataclass(frozen=True)
class StrangerAttempt:
    """A stranger's call to a sidecar (`place`): whether Envoy `refused` it, or it was `let_in`.

    It is neither where the probe came to nothing. `diagnosis` is that of the Envoy.
    """

    place: str
    reply: str
    refused: bool
    let_in: bool
    diagnosis: Diagnosis


def judge_stranger(
    target: Target, attempt: StrangerAttempt, intention: Intention | None, allow: Collection[str]
) -> Finding:
    """A stranger has to be refused. `intention` is the one that decides for it, `allow` are the declared callers."""
    place, reply = attempt.place, attempt.reply
    state, next_step = attempt.diagnosis
    if attempt.refused:
        return holds(f"{place} refuses {STRANGER_IDENTITY}: {reply}")
    if not attempt.let_in:
        return fails(f"whether {place} refuses {STRANGER_IDENTITY} can't be told: {reply}; {state}", next_step)
    evidence = f"{place} lets {STRANGER_IDENTITY} in: {reply}"
    if ANY in allow:
        return holds(f"{evidence}, and every service may call it, as the catalog says")
    if intention is None:
        return fails(
            f"{evidence}; no intention says so, and by default nothing should be allowed",
            f'set default_intention_policy = "deny" in the configuration of Consul; {next_step}',
        )
    if intention.action == DENY:
        return fails(f"{evidence}, though {pair(intention)} (deny) says otherwise; {state}", next_step)
    delete = target.consul_command("intention delete", f"'{intention.source}' '{intention.destination}'")
    return fails(
        f"{evidence}; the intention {pair(intention)} ({intention.action}) says so",
        f"if that is not meant: {delete}",
    )


async def denied_by_default(snapshot: Snapshot) -> list[Finding]:
    """Consul's own default denies a pair that no intention names."""
    require_known(snapshot.registrations, snapshot.target)
    return [judge_default(snapshot.target.consul.address, await snapshot.catalog.default_policy())]


def judge_default(consul: str, policy: str) -> Finding:
    """`policy` is the default of the Consul at the address `consul`."""
    if policy == DENY:
        return holds(f"Consul at {consul} denies what no intention allows")
    return fails(
        f"Consul at {consul} has the default intention policy {policy!r}",
        'set default_intention_policy = "deny" in the configuration of its servers and agents, and start them again',
    )
