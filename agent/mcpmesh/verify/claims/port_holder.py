"""Which process holds a port that an Envoy should hold."""

from __future__ import annotations

from mcpmesh.consul.registration import LOOPBACK
from mcpmesh.verify.finding import Finding, fails, holds
from mcpmesh.verify.snapshot import Snapshot


def judge_holder(snapshot: Snapshot, instance: str, role: str, port: int, host: str = LOOPBACK) -> Finding:
    """Whether the Envoy of `instance` alone holds that port, by the kernel's tables."""
    holders = snapshot.namespaces.of(instance).holders_of(host, port)
    envoys = {process.pid for process in snapshot.processes_of(instance, role)}
    state, next_step = snapshot.diagnose_envoy(instance, role)
    if not holders:
        return fails(f"port {port} of {instance} is held by no process that we can see; {state}", next_step)
    if strangers := sorted(holders - envoys):
        names = ", ".join(f"pid {pid} ({snapshot.process_tree.name(pid)})" for pid in strangers)
        return fails(f"port {port} of {instance} is held by {names}; {state}", f"end what holds it; {next_step}")
    return holds(f"{host}:{port} is held by the Envoy of {instance}, pid {min(holders)}")
