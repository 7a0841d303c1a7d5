"""The claim that every process of the mesh is accounted for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection

from mcpmesh.kit.marked_process import Process
from mcpmesh.model.observed_state import Unknown
from mcpmesh.verify.finding import Finding, bad, good
from mcpmesh.verify.probes.process_tree import Tree
from mcpmesh.verify.snapshot import Facts
from mcpmesh.verify.target import AGENT, CONSUL, GATEWAY, KONG, SIDECAR, World
from mcpmesh.workload.runtime import PLAIN, SERVER, SHIM

# A guard ends what its server has left behind in some hundred milliseconds.
_ENDING_SECONDS = 2.0


async def all_accounted_for(facts: Facts) -> list[Finding]:
    """Each process with our mark is wanted, drains, or came from one that is or does; a stray is named."""
    world = facts.world
    wanted = {i.id for service in world.desired.services.values() for i in service.instances}
    registrations = {} if isinstance(facts.registrations, Unknown) else facts.registrations
    draining = {id_ for id_, registration in registrations.items() if registration.draining}
    roots = accounted(world, facts.processes, wanted | draining, os.getpid(), facts.tree)
    strays = [process for process in facts.processes if facts.tree.ancestor_in(process.pid, roots) is None]
    if strays:
        strays = await _lasting(world, strays)
    if strays:
        return [_stray(world, facts.tree, process) for process in strays]
    started = len(roots - {os.getpid()})
    return [good(f"{len(facts.processes)} processes with this mesh's mark, {started} of them started by the agent")]


async def _lasting(world: World, strays: list[Process]) -> list[Process]:
    """Those that are there a moment later too: what is just ending may outlive who started it for a little."""
    await asyncio.sleep(_ENDING_SECONDS)
    found = await world.runtime.list_processes()
    return [process for process in strays if process in found]


def accounted(
    world: World, processes: Collection[Process], instances: Collection[str], agent: int, tree: Tree
) -> set[int]:
    """Pids of those that are meant to run: the agent, Consul, and the first of each role per instance; pure."""
    at_ingress = (KONG, SIDECAR) if world.kong else (GATEWAY,)
    # The program of an image is in a container of its own; elsewhere a server came from its shim.
    of_instance = (SHIM, PLAIN, SIDECAR, *((SERVER,) if world.runtime.isolated else ()))
    families: dict[tuple[str, str], list[int]] = {}
    for process in sorted(processes, key=lambda process: process.pid):
        mark = process.mark
        # A plain service and what it starts bear the same mark; a second one that came from elsewhere is a stray.
        meant = (
            (mark.role == CONSUL and world.settings.consul.address is None)
            or (mark.role in at_ingress and mark.instance == world.desired.ingress_id)
            or (mark.role in of_instance and mark.instance in instances)
        )
        if meant:
            families.setdefault((mark.role, mark.instance), []).append(process.pid)
    return {agent, *(_first(family, tree) for family in families.values())}


def _first(family: list[int], tree: Tree) -> int:
    """The first that came from none of the others: pids begin anew, and a child's may be the lower one."""
    for pid in family:
        parent = tree.kin[pid].parent if pid in tree.kin else 0
        if tree.ancestor_in(parent, family) is None:
            return pid
    return family[0]


def _stray(world: World, tree: Tree, process: Process) -> Finding:
    mark = process.mark
    role = "another agent" if mark.role == AGENT else f"a {mark.role}"
    return bad(
        f"pid {process.pid} ({tree.name(process.pid)}) bears the mark of {role} of {mark.instance or world.mesh}, "
        "and nothing accounts for it",
        f"the agent ends strays unless it is paused ({world.mcpmesh('resume')}); by hand: kill {process.pid}",
    )
