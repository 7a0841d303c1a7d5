"""Claims about every Envoy of the mesh: it is live, and it has accepted all that Consul sent it."""

from __future__ import annotations

from collections.abc import Collection

from mcpmesh.kit.marked_process import Process
from mcpmesh.verify.attempts import try_each
from mcpmesh.verify.finding import Diagnosis, Finding, fails, holds
from mcpmesh.verify.probes import envoy_stats
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.verify.target import Target
from mcpmesh.verify.time_limits import ANSWER_SECONDS

# Two requests, one after the other.
_SECONDS = 2 * ANSWER_SECONDS


async def are_live(snapshot: Snapshot) -> list[Finding]:
    """Each wanted instance and the ingress has an Envoy, and each Envoy says LIVE at its admin address."""

    async def judge(process: Process) -> Finding:
        report = await snapshot.target.envoy_admin.report(process.private_address("admin"), ANSWER_SECONDS)
        if not report.ready:
            return fails(f"the Envoy of {process.mark.instance} is not LIVE", _diagnose(snapshot, process).next_step)
        return holds(f"{process.mark.instance} (pid {process.pid})")

    envoys = snapshot.envoys
    findings = await try_each(envoys, judge, _SECONDS, lambda process: _diagnose(snapshot, process))
    return missing_envoys(snapshot.target, {process.mark.instance for process in envoys}) + findings


def missing_envoys(target: Target, instances: Collection[str]) -> list[Finding]:
    """A failure for each wanted instance that is not among these `instances`, which have an Envoy."""
    desired = target.desired
    wanted = [instance.id for service in desired.services.values() for instance in service.instances]
    wanted += [desired.ingress_id] if desired.ingress else []
    return [fails(f"no Envoy runs for {id_}", target.agent_repairs) for id_ in wanted if id_ not in instances]


async def rejected_nothing(snapshot: Snapshot) -> list[Finding]:
    """No Envoy rejected a piece of configuration. It would go on with an older one than Consul shows."""
    target = snapshot.target

    async def judge(process: Process) -> Finding:
        admin_address = process.private_address("admin")
        report = await target.envoy_admin.report(admin_address, ANSWER_SECONDS)
        if not report.rejected:
            return holds(f"{process.mark.instance}: 0")
        counters = await envoy_stats.rejected_updates(snapshot.http, admin_address)
        return judge_rejected(target, process, report.rejected, counters)

    return await try_each(snapshot.envoys, judge, _SECONDS, lambda process: _diagnose(snapshot, process))


def judge_rejected(target: Target, process: Process, count: int, counters: Collection[str]) -> Finding:
    """The failure for an Envoy that rejected `count` updates; `counters` are the names that count them."""
    mark = process.mark
    return fails(
        f"the Envoy of {mark.instance} (pid {process.pid}) rejected {count} xDS updates"
        + (f" ({', '.join(counters)})" if counters else ""),
        f"its log has the reason: {target.log_file(f'{mark.instance}.{mark.role}')}; an Envoy counts until it ends, "
        f"so once the cause is removed let the agent start it anew: kill {process.pid}",
    )


def _diagnose(snapshot: Snapshot, process: Process) -> Diagnosis:
    return snapshot.diagnose_envoy(process.mark.instance, process.mark.role)
