"""What the mesh asks of whatever runs its programs: processes of this machine, or containers.

Both find again what they started by marks alone, so an agent that was killed
is followed by one that adopts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed import Workload
from mcpmesh.model.service import ServiceSpec

SHIM = "shim"
PLAIN = "plain"
SERVER = "server"
SIDECAR = "sidecar"
GATEWAY = "gateway"


@dataclass(frozen=True)
class PreferredPorts:
    """Ports that an instance is known by, to be kept where they can be; `beside` is whether its Envoy runs."""

    port: int | None = None
    sidecar_port: int | None = None
    beside: bool = False


@dataclass(frozen=True)
class EnvoyLaunch:
    """An Envoy to start: `bootstrap` makes its configuration, given where its admin address shall be.

    `arguments` makes the command line, given where that configuration lies.
    """

    mark: Mark
    bootstrap: Callable[[int | Path], Awaitable[str]]
    arguments: Callable[[Path], Sequence[str]]


@dataclass(frozen=True)
class PublishedPort:
    """A port of the host that leads to port `inner` of a container; `ours` was started by the agent."""

    container: str
    host: str
    port: int
    inner: int
    ours: bool
    ingress: bool


@dataclass(frozen=True)
class Neighbour:
    """A container on the network of the sidecars that somebody else (compose) runs there.

    `edge` is its address on the ingress's network, "" without one; `table` are
    /proc/net/tcp and tcp6 of its namespace, "" where they can't be read.
    """

    container: str
    edge: str
    table: str


class Runtime(Protocol):
    """Starts, finds, asks, ends; raises WorkloadError where a program is at fault, PeerError where the runtime is."""

    @property
    def sockets(self) -> Path | None:
        """The folder of the sockets that `Process.inner` names; None where all is on loopback."""

    async def close(self) -> None:
        """Lets go of everything; what runs, runs on."""

    async def found(self) -> list[Process]:
        """All that runs with this mesh's mark; raises Unreachable where that can't be told."""

    async def start(self, spec: ServiceSpec, instance: Instance, kept: PreferredPorts, taken: Collection[int]) -> None:
        """Starts an instance; `taken` are ports that others hold or will."""

    async def observe(self, process: Process) -> Workload:
        """What the instance answers now; never raises, a silent one is "unreachable"."""

    def descends_from(self, process: Process, ancestors: Collection[int]) -> bool:
        """Whether it is one of `ancestors` (pids), or was started by one: it bears that one's mark then."""

    async def stop(self, process: Process, drain_seconds: float) -> None:
        """Lets an instance finish what it does within `drain_seconds`, then ends it and its server."""

    def is_free(self, port: int) -> bool:
        """Whether an Envoy could listen at that port."""

    async def start_envoy(self, envoy: EnvoyLaunch, taken: Collection[int]) -> None:
        """Starts an Envoy beside its instance."""

    async def stop_envoy(self, process: Process) -> None:
        """Ends an Envoy that was told to quit; its bootstrap goes with it."""

    async def end(self, process: Process, grace_seconds: float) -> None:
        """Ends anything with our mark."""

    async def last_words(self, name: str) -> str:
        """The last line that an instance ("ID") or its Envoy ("ID.sidecar") said; "(none)" without one."""

    async def run_in_namespace_of(self, envoy: Process, arguments: Sequence[str]) -> str:
        """What our own Python prints for these arguments in the network namespace of an Envoy; "" where it can't run.

        For runtimes that have `sockets` alone: elsewhere all is in one namespace, which is ours.
        """

    async def published(self) -> list[PublishedPort]:
        """Every port of the host that leads into a container of the mesh or of its project."""

    async def neighbours(self) -> list[Neighbour]:
        """Those of the mesh's project, the agent's own container included; none where all is in one namespace."""

    async def ingress_hosts(self) -> tuple[str, str] | None:
        """Where the program at the edge is reached by clients and by the mesh.

        None where the settings say it; raises WorkloadError while what holds its place does not run.
        """

    def remove_bootstraps(self) -> None:
        """Removes what Envoys that were not ended by `stop_envoy` have left."""

    async def any_end(self, processes: Sequence[Process]) -> None:
        """Returns when one of them ends, or earlier; waits for ever when there are none."""
