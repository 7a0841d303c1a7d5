"""The processes of a mesh, indexed by what they run; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mcpmesh.ingress.kong.kong_process import ROLE as KONG_ROLE
from mcpmesh.kit.marked_process import Process
from mcpmesh.workload.runtime import GATEWAY, PLAIN, SHIM, SIDECAR

# Whether a process is one of these pids or was started by one.
DescendsFrom = Callable[[Process, Collection[int]], bool]


class ProcessKind(StrEnum):
    """The kinds of processes that actions start and stop."""

    WORKLOAD = "workload"
    SIDECAR = "sidecar"
    KONG = "kong"


@dataclass(frozen=True)
class ProcessKey:
    """The one process of its kind that belongs to an instance (or to the ingress)."""

    kind: ProcessKind
    instance_id: str


def workload_of(instance_id: str) -> ProcessKey:
    """The shim of an instance, or the program of a plain service."""
    return ProcessKey(ProcessKind.WORKLOAD, instance_id)


def sidecar_of(instance_id: str) -> ProcessKey:
    """The Envoy of an instance or of the ingress."""
    return ProcessKey(ProcessKind.SIDECAR, instance_id)


def kong_of(ingress_id: str) -> ProcessKey:
    """Our own Kong at the ingress."""
    return ProcessKey(ProcessKind.KONG, ingress_id)


_ROLES = {
    ProcessKind.WORKLOAD: (SHIM, PLAIN),
    ProcessKind.SIDECAR: (SIDECAR, GATEWAY),
    ProcessKind.KONG: (KONG_ROLE,),
}


@dataclass(frozen=True)
class ProcessIndex:
    """The processes that were found: the main ones by key, and all by pid."""

    main: Mapping[ProcessKey, Process]
    by_pid: Mapping[int, Process]

    def get(self, key: ProcessKey) -> Process | None:
        """The process of that key; None where it does not run."""
        return self.main.get(key)

    def of_kind(self, kind: ProcessKind) -> dict[str, Process]:
        """The processes of one kind, by instance id."""
        return {key.instance_id: process for key, process in self.main.items() if key.kind is kind}


EMPTY_INDEX = ProcessIndex({}, {})


def index_processes(found: Sequence[Process], descends_from: DescendsFrom) -> ProcessIndex:
    """The index of everything that runs with the mesh's mark."""
    main = {
        ProcessKey(kind, id_): process
        for kind, roles in _ROLES.items()
        for id_, process in first_of_each(found, roles, descends_from).items()
    }
    return ProcessIndex(main, {process.pid: process for process in found})


def first_of_each(found: Sequence[Process], roles: tuple[str, ...], descends_from: DescendsFrom) -> dict[str, Process]:
    """The first process of each instance.

    What a process starts inherits its mark, so the first is the one that no
    other started. Its pid need not be the lowest: pids begin anew.
    """
    families: dict[str, list[Process]] = {}
    for process in sorted(found, key=lambda process: process.pid):
        if process.mark.role in roles:
            families.setdefault(process.mark.instance, []).append(process)
    return {id_: _first(family, descends_from) for id_, family in families.items()}


def _first(family: list[Process], descends_from: DescendsFrom) -> Process:
    pids = {process.pid for process in family}
    return next((p for p in family if len(family) == 1 or not descends_from(p, pids - {p.pid})), family[0])
