"""A call beside what Consul's intentions say of it: answered or refused, it has to be so for a reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mcpmesh.mcp.mcp_client import Forbidden
from mcpmesh.model.observed_state import Intention, Unknown
from mcpmesh.verify.claims import intentions
from mcpmesh.verify.finding import Finding, bad, good
from mcpmesh.verify.snapshot import Facts
from mcpmesh.verify.target import SIDECAR, World

# The first call on a connection that was idle is still judged by what was in force
# when it opened, and closes it; a caller keeps one or two for each instance.
_TRIES = 6


async def as_ruled(facts: Facts, source: str, service: str, call: Callable[[], Awaitable[str]]) -> Finding:
    """The call succeeds, unless a person has denied this very pair: then it must not.

    `call` returns what it saw, or raises Forbidden. It is made again while its outcome is another than Consul's
    intentions ask for, since right after a change it may be of before.
    """
    found = ruling(facts, source, service)
    allowed = found is not None and found.action == intentions.ALLOW
    for _ in range(_TRIES):
        try:
            seen, passed = await call(), True
        except Forbidden as error:
            seen, passed = str(error), False
        if passed == allowed:
            break
    return judge(facts.world, source, service, seen, passed, found)


def judge(world: World, source: str, service: str, seen: str, passed: bool, found: Intention | None) -> Finding:
    """Whether the outcome is as it should be; `found` is the intention that decides for this pair; pure."""
    denied = found is not None and intentions.denied_by_person([found], source, service) is not None
    if passed and not denied:
        return good(seen)
    log = f"does its Envoy hear of Consul? see {world.log(f'{world.mesh}-{service}-*.{SIDECAR}')}"
    if passed:
        return bad(f"{seen}, though a person denied {source} => {service}", log)
    if denied:
        undo = world.consul_command("intention delete", f"{source} {service}")
        return good(f"{seen}, as a person wants it: {source} => {service} (deny); to undo that: {undo}")
    if found is not None and found.action == intentions.ALLOW:
        return bad(f"{seen}, though Consul has {intentions.pair(found)} (allow)", log)
    # Where nothing is said of a pair, `check` goes by the Consul's own default; ours has its denial written.
    ours = world.settings.consul.address is None
    told = world.consul_command(*(("intention check", f"{source} {service}") if ours else ("intention list", "")))
    return bad(f"{seen}: no intention lets {source} call {service}", f"see: {told}; {world.mended_by_agent}")


def ruling(facts: Facts, source: str, service: str) -> Intention | None:
    """The intention that decides for a pair; None where the default does, or nobody can tell."""
    if isinstance(facts.intentions, Unknown):
        return None
    return intentions.ruling(facts.intentions, source, service)
