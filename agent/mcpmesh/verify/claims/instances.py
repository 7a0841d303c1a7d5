"""Claims about the instances themselves: which process holds the registered port, and whether it is ready now."""

from __future__ import annotations

from collections.abc import Collection

from mcpmesh.consul.registration import LOOPBACK
from mcpmesh.errors import PeerError
from mcpmesh.kit.ports import accepts_connections
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.attempts import try_each
from mcpmesh.verify.finding import Diagnosis, Finding, fails, holds
from mcpmesh.verify.probes import shim_info
from mcpmesh.verify.probes.shim_info import Readiness
from mcpmesh.verify.snapshot import InstanceView, Snapshot
from mcpmesh.verify.target import Target
from mcpmesh.verify.time_limits import ANSWER_SECONDS

# A connection, then a request.
_SECONDS = 2 * ANSWER_SECONDS


async def port_is_its_own(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """The port in Consul's catalog accepts connections, and the process with the instance's mark accepts them."""
    target = snapshot.target

    async def judge(instance: InstanceView) -> Finding:
        port = snapshot.registration_of(instance).port
        host, declared_port = instance.external_address or (LOOPBACK, None)
        if declared_port is not None and declared_port != port:
            return fails(f"{instance.id} is registered at port {port}, not {declared_port}", target.agent_repairs)
        # In another network namespace only the kernel's tables and the shim's answer can be had.
        if not target.runtime.isolated and not await accepts_connections(host, port, ANSWER_SECONDS):
            evidence = f"{instance.id} is registered at port {port}, and nothing accepts there"
            return fails(f"{evidence}{_where_it_listens(instance)}", target.agent_repairs)
        if instance.external_address:
            return holds(f"{host}:{port} accepts connections")
        return await _judge_listener(snapshot, instance, port)

    return await try_each(snapshot.instances_of(wanted), judge, _SECONDS, lambda instance: _diagnose(target, instance))


async def _judge_listener(snapshot: Snapshot, instance: InstanceView, port: int) -> Finding:
    """The kernel says which process listens; the shim there says which instance it is of."""
    holders = snapshot.namespaces.of(instance.id).holders_of(LOOPBACK, port)
    failed = judge_port_holders(snapshot, instance, port, holders)
    if failed is not None:
        return failed
    evidence = f"{LOOPBACK}:{port} accepts connections"
    if not instance.wanted.spec.is_mcp:
        return holds(f"{evidence} and is held by pid {min(holders)}")
    info = await shim_info.read_info(snapshot.http, *(instance.shim_address or (LOOPBACK, port)))
    if info.instance != instance.id:
        return fails(f"port {port} answers as {info.instance}, not as {instance.id}", snapshot.target.agent_repairs)
    return holds(f"{evidence} and answers as {info.instance}, pid {min(holders)}")


def judge_port_holders(
    snapshot: Snapshot, instance: InstanceView, port: int, holders: Collection[int]
) -> Finding | None:
    """A failure where a process that did not come from the instance's program holds the port; else None."""
    tree = snapshot.process_tree
    programs = {process.pid for process in instance.programs}
    strangers = [pid for pid in sorted(holders) if tree.nearest(pid, programs) is None]
    if holders and not strangers:
        return None
    names = ", ".join(f"pid {pid} ({tree.name(pid)})" for pid in strangers) or "a process of another user"
    evidence = f"port {port} of {instance.id} is held by {names}{_where_it_listens(instance)}"
    return fails(evidence, snapshot.target.agent_repairs)


def _where_it_listens(instance: InstanceView) -> str:
    if not instance.programs:
        return "; no process of ours runs for it"
    process = instance.programs[0]
    return f"; its process is pid {process.pid} and listens at {process.mark.ports.get('http')}"


async def is_ready(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """Each instance answers now. A dead server is found before Consul's next check."""
    target = snapshot.target

    async def judge(instance: InstanceView) -> Finding:
        # Where it listens by its mark: a wrong registration fails a claim of its own.
        if instance.external_address:
            host, port = instance.external_address
        elif instance.programs:
            host, port = instance.programs[0].private_host, instance.programs[0].mark.ports["http"]
        else:
            return fails(f"no process of ours runs for {instance.id}", target.agent_repairs)
        if not wanted.spec.is_mcp:
            if await accepts_connections(host, port, ANSWER_SECONDS):
                return holds(f"{instance.id} accepts connections at {host}:{port}")
            return fails(f"{instance.id} accepts no connections at {host}:{port}", _see_log(target, instance))
        try:
            readiness = await shim_info.read_readiness(snapshot.http, host, port)
        except PeerError as error:
            return fails(str(error), _see_log(target, instance))
        return judge_readiness(target, wanted.spec.name, instance.id, readiness)

    return await try_each(snapshot.instances_of(wanted), judge, _SECONDS, lambda instance: _diagnose(target, instance))


def judge_readiness(target: Target, service: str, instance: str, readiness: Readiness) -> Finding:
    """`readiness` is what the instance's shim says about its server."""
    if readiness.ready:
        return holds(f"the shim of {instance} says ready")
    step = f"see its output: {target.mcpmesh_command(f'logs {service}')}"
    return fails(f"the shim of {instance} says {readiness.state}: {readiness.error or 'no reason given'}", step)


def _diagnose(target: Target, instance: InstanceView) -> Diagnosis:
    return Diagnosis("", _see_log(target, instance))


def _see_log(target: Target, instance: InstanceView) -> str:
    return f"see its log, {target.log_file(instance.id)}"
