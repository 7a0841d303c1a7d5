"""Claims about calls from outside the mesh, through the ingress."""

from __future__ import annotations

from http import HTTPStatus

from mcpmesh.mcp.mcp_client import Unauthorized
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.attempts import try_each
from mcpmesh.verify.claims.call_verdict import judged_call
from mcpmesh.verify.claims.route_paths import service_at, user_path_at
from mcpmesh.verify.finding import CannotTry, Diagnosis, Finding, fails, holds
from mcpmesh.verify.probes import service_calls
from mcpmesh.verify.probes.tcp_probe import Outcome
from mcpmesh.verify.snapshot import UNDECLARED_PATH, Snapshot
from mcpmesh.verify.time_limits import ANSWER_SECONDS

_SECONDS = service_calls.TOOLS_SECONDS + ANSWER_SECONDS


async def answered_through_ingress(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """A call from outside, without any certificate, at the service's address on the ingress."""
    spec, source = wanted.spec, snapshot.target.desired.ingress_service
    require_ingress(snapshot)
    url = f"{snapshot.target.ingress_url}{spec.route}"
    shims = [instance.shim_address for instance in snapshot.instances_of(wanted) if instance.shim_address]

    async def call() -> str:
        if not spec.is_mcp:
            return f"{await service_calls.get(snapshot.http, url.rstrip('/') + spec.health.proof_path)} at {url}"
        try:
            return f"{await service_calls.list_tools(snapshot.http, url, shims[0] if shims else None)} at {url}"
        except Unauthorized as error:
            if snapshot.target.kong is None:
                raise
            return f"Kong asks for a credential, and who may pass with one was not tried: {error}"

    async def judge(_: DesiredService) -> Finding:
        return await judged_call(snapshot, source, spec.name, call)

    return await try_each([wanted], judge, _SECONDS, lambda wanted: diagnose_service(snapshot, wanted))


async def not_at_ingress(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """A service without a route cannot be reached from outside by guessing its path."""
    require_ingress(snapshot)
    target, path = snapshot.target, f"/mcp/{wanted.spec.name}"
    if other := service_at(snapshot.routes, path):
        return [holds(f'{path} belongs to "{other}", whose route is {snapshot.routes[other]}')]
    answer = await service_calls.fetch(snapshot.http, f"{target.ingress_url}{path}")
    if answer.status_code == HTTPStatus.NOT_FOUND and not service_calls.forwarded(answer):
        return [holds(f"{target.ingress_url}{path} answers HTTP 404")]
    if user_path := user_path_at(target.kong.user_paths if target.kong else (), path):
        return [holds(f"{path} belongs to a document of your own, whose path is {user_path}")]
    evidence = f"{path} has no route and answers HTTP {answer.status_code}"
    return [fails(evidence, f"see whose route it is: {target.show_routes}")]


async def answers_declared_paths_alone(snapshot: Snapshot) -> list[Finding]:
    """The ingress itself answers 404 at a path that nothing declares."""
    require_ingress(snapshot)
    target, reply = snapshot.target, snapshot.ingress_reply
    if service := service_at(snapshot.routes, UNDECLARED_PATH):
        return [holds(f'every path is declared: the route of "{service}" is {snapshot.routes[service]}')]
    if reply.status == HTTPStatus.NOT_FOUND and not reply.forwarded:
        return [holds(f"{target.ingress_url}{UNDECLARED_PATH} answers HTTP 404")]
    if user_path := user_path_at(target.kong.user_paths if target.kong else (), UNDECLARED_PATH):
        return [holds(f"every path is declared: a document of your own takes {user_path}")]
    evidence = f"{target.ingress_url}{UNDECLARED_PATH} answers {reply.text}"
    return [fails(evidence, f"see whose route takes it: {target.show_routes}")]


def diagnose_service(snapshot: Snapshot, wanted: DesiredService) -> Diagnosis:
    """The first Envoy or program of a service that is stopped or missing, and the next step."""
    for instance in snapshot.instances_of(wanted):
        processes = (*instance.envoys, *instance.programs)
        if not instance.envoys or any(snapshot.process_tree.is_stopped(process.pid) for process in processes):
            return snapshot.diagnose_envoy(instance.id)
    logs = snapshot.target.mcpmesh_command(f"logs {wanted.spec.name}")
    return Diagnosis("", f"see its other claims, and its output: {logs}")


def require_ingress(snapshot: Snapshot) -> None:
    """CannotTry, at once, where the ingress did not answer the snapshot."""
    if snapshot.ingress_reply.outcome is not Outcome.ANSWERED:
        state, next_step = snapshot.diagnose_ingress()
        url, reply = snapshot.target.ingress_url, snapshot.ingress_reply.text
        raise CannotTry(f"the ingress at {url} does not answer: {reply}; {state}", next_step)
