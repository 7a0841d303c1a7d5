"""The outcome of a call, compared with what Consul's intentions say about its pair."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mcpmesh.mcp.mcp_client import Forbidden
from mcpmesh.model.observed_state import Intention, Unknown
from mcpmesh.verify.claims.intentions import ALLOW, deciding_intention, is_denial_by_user, pair
from mcpmesh.verify.finding import Finding, fails, holds
from mcpmesh.verify.process_roles import SIDECAR
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.verify.target import Target

# After a change of intentions, the first call on an idle connection is still judged by what was in force when it
# opened, and closes it. A caller keeps one or two connections to each instance.
_TRIES = 6


async def judged_call(snapshot: Snapshot, source: str, service: str, call: Callable[[], Awaitable[str]]) -> Finding:
    """Makes the call, and judges whether it passed or was refused as the intentions say.

    `call` returns what it saw, or raises Forbidden. While its outcome differs from what the intentions say, it is
    made again: right after a change it may still be judged by the old ones.
    """
    intention = intention_for(snapshot, source, service)
    allowed = intention is not None and intention.action == ALLOW
    for _ in range(_TRIES):
        try:
            evidence, passed = await call(), True
        except Forbidden as error:
            evidence, passed = str(error), False
        if passed == allowed:
            break
    return judge_call(snapshot.target, source, service, evidence, passed, intention)


def judge_call(
    target: Target, source: str, service: str, evidence: str, passed: bool, intention: Intention | None
) -> Finding:
    """A call has to pass, unless a user denied this very pair. `intention` is the one that decides for the pair."""
    denied_by_user = is_denial_by_user(intention, source, service)
    if passed and not denied_by_user:
        return holds(evidence)
    log = f"does its Envoy hear of Consul? see {target.log_file(f'{target.mesh}-{service}-*.{SIDECAR}')}"
    if passed:
        return fails(f"{evidence}, though a person denied {source} => {service}", log)
    if denied_by_user:
        undo = target.consul_command("intention delete", f"{source} {service}")
        return holds(f"{evidence}, as a person wants it: {source} => {service} (deny); to undo that: {undo}")
    if intention is not None and intention.action == ALLOW:
        return fails(f"{evidence}, though Consul has {pair(intention)} (allow)", log)
    # `intention check` goes by Consul's default where no intention names the pair. Only our own Consul's default is
    # known to deny.
    ours = target.settings.consul.address is None
    check = ("intention check", f"{source} {service}") if ours else ("intention list", "")
    step = f"see: {target.consul_command(*check)}; {target.agent_repairs}"
    return fails(f"{evidence}: no intention lets {source} call {service}", step)


def intention_for(snapshot: Snapshot, source: str, service: str) -> Intention | None:
    """The intention that decides for a pair; None where Consul's default does, or intentions can't be read."""
    if isinstance(snapshot.intentions, Unknown):
        return None
    return deciding_intention(snapshot.intentions, source, service)
