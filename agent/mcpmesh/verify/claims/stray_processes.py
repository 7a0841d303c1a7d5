"""The claim that every process with the mesh's mark is accounted for."""

from __future__ import annotations

import os
from collections.abc import Collection

from mcpmesh.kit.marked_process import Process
from mcpmesh.model.observed_state import Unknown
from mcpmesh.verify.finding import Finding, fails, holds
from mcpmesh.verify.probes.lasting_processes import ENDING_SECONDS, still_running
from mcpmesh.verify.probes.process_tree import ProcessTree
from mcpmesh.verify.process_roles import AGENT, CONSUL, GATEWAY, KONG, PLAIN, SERVER, SHIM, SIDECAR
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.verify.target import Target


async def all_are_accounted_for(snapshot: Snapshot, ending_seconds: float = ENDING_SECONDS) -> list[Finding]:
    """Each process with our mark belongs to a wanted or a draining instance, or was started by one that does.

    A process that ends within `ending_seconds` is not a stray.
    """
    target, tree = snapshot.target, snapshot.process_tree
    wanted = {instance.id for service in target.desired.services.values() for instance in service.instances}
    registrations = {} if isinstance(snapshot.registrations, Unknown) else snapshot.registrations
    draining = {id_ for id_, registration in registrations.items() if registration.draining}
    roots = expected_pids(target, snapshot.processes, wanted | draining, os.getpid(), tree)
    strays = [process for process in snapshot.processes if tree.nearest(process.pid, roots) is None]
    if strays:
        strays = await still_running(target.runtime, strays, ending_seconds)
    if strays:
        return [stray_process(target, process, tree.name(process.pid)) for process in strays]
    started = len(roots - {os.getpid()})
    return [holds(f"{len(snapshot.processes)} processes with this mesh's mark, {started} of them started by the agent")]


def expected_pids(
    target: Target, processes: Collection[Process], instances: Collection[str], agent: int, tree: ProcessTree
) -> set[int]:
    """The pids of the agent, of Consul, of the ingress, and of the first process of each role of `instances`."""
    at_ingress = (KONG, SIDECAR) if target.kong else (GATEWAY,)
    # The program of an image is in a container of its own. Elsewhere a shim starts its server.
    of_instance = (SHIM, PLAIN, SIDECAR, *((SERVER,) if target.runtime.isolated else ()))
    families: dict[tuple[str, str], list[int]] = {}
    for process in sorted(processes, key=lambda process: process.pid):
        mark = process.mark
        expected = (
            (mark.role == CONSUL and target.settings.consul.address is None)
            or (mark.role in at_ingress and mark.instance == target.desired.ingress_id)
            or (mark.role in of_instance and mark.instance in instances)
        )
        if expected:
            families.setdefault((mark.role, mark.instance), []).append(process.pid)
    return {agent, *(_first(family, tree) for family in families.values())}


def _first(family: list[int], tree: ProcessTree) -> int:
    """The first that none of the others started.

    A plain service and what it starts bear the same mark; a second one that came from elsewhere is a stray. The
    lowest pid is not always the parent's, since pids begin anew.
    """
    for pid in family:
        if tree.nearest(tree.parent(pid), family) is None:
            return pid
    return family[0]


def stray_process(target: Target, process: Process, name: str) -> Finding:
    """The failure for a process that nothing accounts for."""
    mark = process.mark
    role = "another agent" if mark.role == AGENT else f"a {mark.role}"
    return fails(
        f"pid {process.pid} ({name}) bears the mark of {role} of {mark.instance or target.mesh}, "
        "and nothing accounts for it",
        f"the agent ends strays unless it is paused ({target.mcpmesh_command('resume')}); by hand: kill {process.pid}",
    )
