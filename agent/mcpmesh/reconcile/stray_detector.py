"""Processes with our mark that belong to no instance."""

from __future__ import annotations

from collections.abc import Sequence

from mcpmesh.consul.embedded_consul import ROLE as CONSUL
from mcpmesh.kit.marked_process import Process
from mcpmesh.model.observed_state import Stray
from mcpmesh.model.reserved_names import AGENT
from mcpmesh.reconcile.process_index import DescendsFrom, ProcessIndex

# They belong to the mesh itself.
_NEVER_STRAY = (AGENT, CONSUL)


class StrayDetector:
    """Remembers the suspects of the previous pass.

    Only a process found in two passes is a stray: a single one may have seen a
    server in the moment before its shim, or after it.
    """

    def __init__(self) -> None:
        self._suspects: frozenset[int] = frozenset()

    def strays(self, found: Sequence[Process], index: ProcessIndex, descends_from: DescendsFrom) -> tuple[Stray, ...]:
        """The processes that descend from no process of the index, in this pass and in the previous one."""
        main = {process.pid for process in index.main.values()}
        suspects = {
            process.pid: Stray(process.pid, process.mark.role, process.mark.instance)
            for process in found
            if process.mark.role not in _NEVER_STRAY and not descends_from(process, main)
        }
        confirmed = tuple(stray for pid, stray in suspects.items() if pid in self._suspects)
        self._suspects = frozenset(suspects)
        return confirmed
