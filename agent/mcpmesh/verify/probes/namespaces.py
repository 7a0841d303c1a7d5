"""Where the mesh's programs run: one network namespace and one tree of processes, or a namespace for each instance.

In a container its Envoy is asked for the kernel's tables, since only it is in
the same namespace and ours through and through; what it does not hold itself
is its instance's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mcpmesh.errors import MeshError
from mcpmesh.kit.marked_process import Process
from mcpmesh.model.observed_state import Unknown
from mcpmesh.verify.probes import listening_sockets
from mcpmesh.verify.probes import process_tree as tree
from mcpmesh.verify.probes.listening_sockets import Sockets, Table
from mcpmesh.verify.probes.process_tree import Kin, Tree
from mcpmesh.verify.target import GATEWAY, SIDECAR
from mcpmesh.workload.runtime import SHIM, Neighbour, Runtime

# Docker's own resolver listens in every namespace, at an address that nobody outside reaches.
_RESOLVER = "127.0.0.11"


@dataclass(frozen=True)
class Ground:
    """The kernel's word: `here` for this machine's own namespace, else one for each instance."""

    tree: Tree
    here: Sockets | None = None
    namespaces: Mapping[str, Sockets] = field(default_factory=dict)
    neighbours: tuple[Neighbour, ...] | Unknown = ()

    def of(self, instance: str) -> Sockets:
        """The listeners that an instance and its Envoy can have."""
        return self.here or self.namespaces.get(instance) or Sockets((), {})

    def each(self) -> Iterator[Sockets]:
        """Those of all namespaces, each once."""
        yield from (self.here,) if self.here else self.namespaces.values()


async def look(runtime: Runtime, processes: Collection[Process]) -> Ground:
    """One look; a namespace that could not be seen has no listeners, and what is claimed of it fails."""
    envoys = [process for process in processes if process.mark.role in (SIDECAR, GATEWAY)]
    if not runtime.isolated:
        # In this order: a process that is new meanwhile is then missing here, and not taken for a stray.
        family = await asyncio.to_thread(tree.look)
        return Ground(family, await asyncio.to_thread(listening_sockets.look))
    told = await asyncio.gather(
        *(runtime.run_in_namespace_of(envoy, ["-m", listening_sockets.__name__]) for envoy in envoys)
    )
    programs = {p.mark.instance: p.pid for p in processes if p.mark.role == SHIM}
    family = Tree({process.pid: Kin(0, process.mark.role, "S") for process in processes})
    found = zip(envoys, told, strict=True)
    namespaces = {e.mark.instance: _sockets(text, e.pid, programs.get(e.mark.instance)) for e, text in found}
    try:
        return Ground(family, None, namespaces, tuple(await runtime.neighbours()))
    except MeshError as error:
        return Ground(family, None, namespaces, Unknown(str(error)))


def _sockets(text: str, envoy: int, program: int | None) -> Sockets:
    try:
        table: list[dict[str, Any]] = json.loads(text or "[]")
        found = [Table(**row) for row in table]
    except (ValueError, TypeError):
        return Sockets((), {})
    found = [row for row in found if row.address != _RESOLVER]
    holders = {row.inode: envoy if row.mine else program for row in found}
    return Sockets(
        tuple(row.listener() for row in found),
        {inode: frozenset({pid}) for inode, pid in holders.items() if pid is not None},
    )
