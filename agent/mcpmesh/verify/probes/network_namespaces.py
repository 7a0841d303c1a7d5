"""The network namespaces and processes of a mesh.

Processes on this machine share one network namespace and one process tree. In
containers each instance has a namespace, which it shares with its Envoy. The
Envoy's container reads the kernel's tables there, because it is the only one
in that namespace whose programs are all ours. What Envoy does not hold itself,
its instance holds.
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
from mcpmesh.verify.probes.listening_sockets import ListenerRow, ListeningSockets, read_sockets
from mcpmesh.verify.probes.process_tree import Node, ProcessTree, read_tree
from mcpmesh.verify.process_roles import GATEWAY, SHIM, SIDECAR
from mcpmesh.workload.runtime import Neighbour, Runtime

# Docker's own resolver listens in every namespace, at an address that nothing outside reaches.
_RESOLVER = "127.0.0.11"

NO_SOCKETS = ListeningSockets((), {})


@dataclass(frozen=True)
class Namespaces:
    """What the kernel says: `host` for this machine's own namespace, else one of `by_instance` for each instance.

    `neighbours` are the containers that compose runs on the same networks.
    """

    process_tree: ProcessTree
    host: ListeningSockets | None = None
    by_instance: Mapping[str, ListeningSockets] = field(default_factory=dict)
    neighbours: tuple[Neighbour, ...] | Unknown = ()

    def of(self, instance: str) -> ListeningSockets:
        """The listeners in the namespace of an instance and its Envoy."""
        return self.host or self.by_instance.get(instance) or NO_SOCKETS

    def each(self) -> Iterator[ListeningSockets]:
        """The listeners of every namespace, each namespace once."""
        yield from (self.host,) if self.host else self.by_instance.values()


async def read_namespaces(runtime: Runtime, processes: Collection[Process]) -> Namespaces:
    """The namespaces of now. One that could not be read has no listeners, and the claims about it fail."""
    if not runtime.isolated:
        # In this order: a process that starts between the two is not in the tree, and so not taken for a stray.
        tree = await asyncio.to_thread(read_tree)
        return Namespaces(tree, await asyncio.to_thread(read_sockets))
    envoys = [process for process in processes if process.mark.role in (SIDECAR, GATEWAY)]
    printed = await asyncio.gather(
        *(runtime.run_in_namespace_of(envoy, ["-m", listening_sockets.__name__]) for envoy in envoys)
    )
    shims = {process.mark.instance: process.pid for process in processes if process.mark.role == SHIM}
    by_instance = {
        envoy.mark.instance: parse_namespace(text, envoy.pid, shims.get(envoy.mark.instance))
        for envoy, text in zip(envoys, printed, strict=True)
    }
    # Each container has a tree of its own. None of them came from another.
    tree = ProcessTree({process.pid: Node(0, process.mark.role, "S") for process in processes})
    try:
        return Namespaces(tree, None, by_instance, tuple(await runtime.neighbours()))
    except MeshError as error:
        return Namespaces(tree, None, by_instance, Unknown(str(error)))


def parse_namespace(text: str, envoy: int, program: int | None) -> ListeningSockets:
    """From what `listening_sockets` printed in a namespace; no listeners where that can't be read.

    The Envoy's pid and the shim's (None without one) are those that the mesh knows them by.
    """
    try:
        rows: list[dict[str, Any]] = json.loads(text or "[]")
        found = [ListenerRow(**row) for row in rows]
    except (ValueError, TypeError):
        return NO_SOCKETS
    found = [row for row in found if row.address != _RESOLVER]
    holders = {row.inode: envoy if row.of_main_process else program for row in found}
    return ListeningSockets(
        tuple(row.listener() for row in found),
        {inode: frozenset({pid}) for inode, pid in holders.items() if pid is not None},
    )
