"""The runtime: starts, finds, observes and ends the programs of a mesh.

There are two: processes of this machine (`process_runtime`) and containers
(`containers`). Both find what they started by its mark alone, so an agent that
starts after another one was killed adopts what that one left running.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import Workload
from mcpmesh.model.service import ServiceSpec

SHIM = "shim"
PLAIN = "plain"
SERVER = "server"
SIDECAR = "sidecar"
GATEWAY = "gateway"


@dataclass(frozen=True)
class PreferredPorts:
    """The ports under which an instance is registered; it keeps them where it can.

    While `envoy_runs`, the sidecar's port is held by the instance's own Envoy.
    """

    port: int | None = None
    sidecar_port: int | None = None
    envoy_runs: bool = False


@dataclass(frozen=True)
class EnvoyLaunch:
    """An Envoy to start.

    `bootstrap` makes its configuration, given its admin address (a port of
    loopback, or a socket). `arguments` makes its command line, given the path
    of that configuration.
    """

    mark: Mark
    bootstrap: Callable[[int | Path], Awaitable[str]]
    arguments: Callable[[Path], Sequence[str]]


@dataclass(frozen=True)
class PublishedPort:
    """A port of the host that leads to `container_port`; `ours`: the agent started that container."""

    container: str
    host: str
    port: int
    container_port: int
    ours: bool
    ingress: bool


@dataclass(frozen=True)
class Neighbour:
    """A container of the mesh's compose project on the sidecars' network that the agent did not start.

    `ingress_address` is its address on the ingress's network, "" without one.
    `socket_table` holds /proc/net/tcp and tcp6 of its namespace, "" where they
    can't be read.
    """

    container: str
    ingress_address: str
    socket_table: str


class Runtime(Protocol):
    """Raises WorkloadError where a program is at fault, and PeerError where the runtime itself is."""

    @property
    def isolated(self) -> bool:
        """Whether each instance has a network namespace of its own; else all are on this machine's loopback."""

    @property
    def socket_folder(self) -> Path | None:
        """The folder of the sockets that `Process.private_host` names; None unless `isolated`."""

    async def close(self) -> None:
        """Closes the connections; what runs keeps running."""

    async def list_processes(self) -> list[Process]:
        """Everything that runs with this mesh's mark; raises Unreachable where that can't be read."""

    async def start(
        self, spec: ServiceSpec, instance: Instance, preferred: PreferredPorts, taken: Collection[int]
    ) -> None:
        """Starts an instance; no new port is one of `taken`."""

    async def observe(self, process: Process) -> Workload:
        """The state of an instance; never raises, one that does not answer is "unreachable"."""

    def descends_from(self, process: Process, ancestors: Collection[int]) -> bool:
        """Whether it is one of `ancestors` (pids) or was started by one; it then inherited that one's mark."""

    async def stop(self, process: Process, drain_seconds: float) -> None:
        """Lets an instance finish its calls within `drain_seconds`, then ends it and its server."""

    def is_free(self, port: int) -> bool:
        """Whether an Envoy could listen at that port."""

    async def start_envoy(self, envoy: EnvoyLaunch, taken: Collection[int]) -> None:
        """Starts an Envoy next to its instance."""

    async def stop_envoy(self, process: Process) -> None:
        """Ends an Envoy that was told to quit, and removes its bootstrap."""

    async def end(self, process: Process, grace_seconds: float) -> None:
        """Ends anything with our mark."""

    async def last_log_line(self, name: str) -> str:
        """The last line in the log of an instance ("ID") or of its Envoy ("ID.sidecar"); "(none)" without one."""

    async def run_in_namespace_of(self, envoy: Process, arguments: Sequence[str]) -> str:
        """The output of our Python with these arguments in the network namespace of an Envoy.

        "" where it can't run. Only for a runtime that is `isolated`: elsewhere
        there is one namespace, which is ours.
        """

    async def published_ports(self) -> list[PublishedPort]:
        """Every port of the host that leads into a container of the mesh or of its compose project."""

    async def neighbours(self) -> list[Neighbour]:
        """The containers of the mesh's compose project, the agent's own included; none unless `isolated`."""

    async def ingress_hosts(self) -> tuple[str, str] | None:
        """The host of the ingress for clients, and the one for the mesh.

        None where the settings say it; raises WorkloadError while the ingress's container does not run.
        """

    def remove_bootstraps(self) -> None:
        """Removes the bootstraps of Envoys that were not ended by `stop_envoy`."""

    async def wait_for_any_end(self, processes: Sequence[Process]) -> None:
        """Returns when one of them ends, or earlier; waits for ever when there are none."""
