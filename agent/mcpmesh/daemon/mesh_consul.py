"""The Consul of a mesh: the one that the settings name, or our own, which is restarted when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mcpmesh.consul.binary import Sources, find_or_make
from mcpmesh.consul.client import Consul
from mcpmesh.consul.embedded_consul import PORTS, ROLE, EmbeddedConsul
from mcpmesh.daemon.agent_certificate import Credentials
from mcpmesh.daemon.state_store import StateStore, marked_ports
from mcpmesh.envoy.bootstrap import ConsulAddress
from mcpmesh.errors import MeshError
from mcpmesh.kit.marked_process import find_marked, wait_for_any_end
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.model.agent_reports import Level
from mcpmesh.model.reserved_names import AGENT_IDENTITY
from mcpmesh.reconcile.event_journal import Journal
from mcpmesh.settings import Settings

_RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class ConsulConnection:
    """A Consul that was found or started: its address, a client, and the agent's credentials there."""

    address: ConsulAddress
    client: Consul
    credentials: Credentials


class MeshConsul:
    """`url` is "" and `connection` None until `connect` has returned."""

    def __init__(self, settings: Settings, name: str, home: Path, state_store: StateStore, journal: Journal) -> None:
        self.url = ""
        self.connection: ConsulConnection | None = None
        self.ports = PortAllocator(settings.ports.infrastructure)
        self._settings = settings
        self._name = name
        self._home = home
        self._state_store = state_store
        self._journal = journal
        self._embedded: EmbeddedConsul | None = None

    async def binary(self) -> Path:
        """Finds, downloads or builds the program."""
        consul = self._settings.consul
        return await find_or_make(
            consul.version,
            cache_dir=self._settings.cache_dir,
            configured=consul.binary,
            progress=self._progress,
            sources=Sources(releases=consul.release_url),
        )

    async def connect(self, binary: Path) -> ConsulConnection:
        """Finds or starts Consul, and sets `connection`."""
        address = await self._address(binary)
        client = Consul(address.http, self._settings.consul.token)
        self.connection = ConsulConnection(address, client, Credentials(client, AGENT_IDENTITY))
        return self.connection

    async def keep_running(self, wake: Callable[[], None]) -> None:
        """Restarts our own Consul whenever it ends, and calls `wake` then; never returns."""
        while self._embedded is not None:
            process = self._embedded.running()
            if process is not None:
                await wait_for_any_end([process.pid])
            self._journal.record(Level.TROUBLE, "Consul has ended; starting it again", "consul")
            try:
                await self._start(self._embedded)
            except MeshError as error:
                self._journal.record(Level.TROUBLE, str(error), "consul")
                await asyncio.sleep(_RETRY_SECONDS)
            wake()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Closes the connections; Consul keeps running."""
        if self.connection:
            await self.connection.client.close()

    async def _address(self, binary: Path) -> ConsulAddress:
        """The address of the Consul in the settings, or of ours, which is started where it does not run."""
        configured = self._settings.consul
        if configured.address is not None:
            self.url = configured.url or configured.address
            grpc = configured.grpc_address
            if grpc is None:
                consul = Consul(configured.address, configured.token)
                try:
                    grpc = await consul.grpc_address()
                finally:
                    await consul.close()
            return ConsulAddress(binary, configured.address, grpc, configured.token)
        is_running = any(process.mark.role == ROLE for process in find_marked(self._home))
        ports = self._state_store.ports(PORTS, self.ports, marked_ports(), held_by_us=is_running)
        self._embedded = EmbeddedConsul(binary, self._name, self._home, ports)
        await self._start(self._embedded)
        self.url = self._embedded.address
        return ConsulAddress(binary, self._embedded.address, self._embedded.grpc_address)

    async def _start(self, embedded: EmbeddedConsul) -> None:
        await embedded.start(self._progress, self._settings.consul.start_seconds)

    def _progress(self, line: str) -> None:
        self._journal.record(Level.PROGRESS, line, "consul")
