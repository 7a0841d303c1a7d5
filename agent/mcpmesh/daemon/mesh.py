"""One mesh, composed: Consul, the loop and everything that it works with."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mcpmesh.consul.binary import Sources, find_or_make
from mcpmesh.consul.client import Consul
from mcpmesh.consul.server import PORTS as CONSUL_PORTS
from mcpmesh.consul.server import EmbeddedConsul
from mcpmesh.daemon.credentials import Credentials
from mcpmesh.daemon.memory import Memory
from mcpmesh.envoy import proxy
from mcpmesh.envoy.admin import Admin
from mcpmesh.envoy.bootstrap import ConsulAddress
from mcpmesh.errors import MeshError
from mcpmesh.kit.ports import Ports
from mcpmesh.kit.process import marked, wait_for_any_end
from mcpmesh.model.service import Catalog
from mcpmesh.model.status import Level
from mcpmesh.plan.desired import Desired
from mcpmesh.reconcile.apply import Applier, Hands
from mcpmesh.reconcile.desire import AGENT_IDENTITY, desire, nothing
from mcpmesh.reconcile.journal import Journal
from mcpmesh.reconcile.loop import Loop
from mcpmesh.reconcile.observe import Observer
from mcpmesh.reconcile.prover import Prover
from mcpmesh.settings import Settings
from mcpmesh.workload.process import Processes
from mcpmesh.workload.runtime import GATEWAY

# Who goes first when a mesh is swept away without asking: callers before what they call.
_SWEEP_ORDER = ("gateway", "sidecar", "shim", "plain", "server", "consul")


class Mesh:
    """The running parts; `bring_up` makes them, `close` lets go of them (they run on)."""

    def __init__(self, settings: Settings, name: str, journal: Journal) -> None:
        self.settings = settings
        self.name = name
        self.home = settings.home(name)
        self.journal = journal
        self.memory = Memory(self.home)
        self.infrastructure = Ports(settings.ports.infrastructure)
        self.ports = Ports(settings.ports.services)
        self.runtime = Processes(name, self.home, self.ports)
        self.admin = Admin(self.runtime.sockets)
        self.embedded: EmbeddedConsul | None = None
        self.consul: Consul | None = None
        self.loop: Loop | None = None
        self.ingress_port = 0
        self.consul_url = ""
        self.credentials: Credentials | None = None
        self._prover: Prover | None = None

    @property
    def ingress_url(self) -> str:
        """The ingress as a client writes it."""
        host = self.settings.ingress.host
        host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - what people ask for, not what we choose
        return f"http://[{host}]:{self.ingress_port}" if ":" in host else f"http://{host}:{self.ingress_port}"

    def claimed_ports(self) -> set[int]:
        """Ports that any mesh of this machine holds or has set aside."""
        return {port for process in marked() for port in process.mark.ports.values()}

    def desired(self, catalog: Catalog) -> Desired:
        """What the catalog wants of this mesh."""
        ingress = self.settings.ingress
        return desire(catalog, self.name, self.memory.key(), ingress.service, ingress.host, self.ingress_port)

    async def bring_up(self, catalog: Catalog) -> Loop:
        """Finds or starts Consul and sets the loop up; the caller runs it."""
        settings = self.settings
        binary = await find_or_make(
            settings.consul.version,
            cache_dir=settings.cache_dir,
            configured=settings.consul.binary,
            progress=lambda line: self.journal.say(Level.PROGRESS, line, "consul"),
            sources=Sources(releases=settings.consul.release_url),
        )
        envoy = proxy.find_envoy(settings.envoy.binary)
        address = await self._consul_address(binary)
        self.consul = Consul(address.http, settings.consul.token)
        self.credentials = Credentials(self.consul, AGENT_IDENTITY)
        self.ingress_port = self.memory.ingress_port(
            settings.ingress,
            self.claimed_ports(),
            self._held_ingress_port(),
            lambda sentence: self.journal.say(Level.CHANGE, sentence, settings.ingress.service),
        )
        self._prover = Prover(self.credentials, settings.agent.proof_seconds, self._wake)
        observer = Observer(self.name, self.home, self.consul, self.runtime, self.admin, self._prover, self.ports)
        hands = Hands(
            mesh=self.name,
            home=self.home,
            consul=self.consul,
            consul_address=address,
            runtime=self.runtime,
            admin=self.admin,
            envoy=envoy,
            envoy_settings=settings.envoy,
            observer=observer,
            journal=self.journal,
        )
        self.loop = Loop(
            self.desired(catalog),
            observer,
            Applier(hands),
            self.journal,
            self.ingress_url,
            settings.agent.pass_seconds,
        )
        return self.loop

    def want_nothing(self) -> None:
        """Takes everything down from the next pass on."""
        if self.loop is not None:
            self.loop.paused = False
            self.loop.want(nothing(self.name, self.settings.ingress.service))

    async def keep_consul(self) -> None:
        """Starts the embedded Consul again whenever it ends; never returns."""
        while self.embedded is not None:
            process = self.embedded.running()
            if process is not None:
                await wait_for_any_end([process.pid])
            self.journal.say(Level.TROUBLE, "Consul has ended; starting it again", "consul")
            try:
                await self._start_consul(self.embedded)
            except MeshError as error:
                self.journal.say(Level.TROUBLE, str(error), "consul")
                await asyncio.sleep(2.0)
            self._wake()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Lets go of everything; what runs, runs on."""
        if self._prover:
            await self._prover.close()
        await self.admin.close()
        await self.runtime.close()
        if self.consul:
            await self.consul.close()

    async def sweep(self) -> list[str]:
        """Ends every process of this mesh that is still there, callers first; returns what they were."""
        found = [process for process in await self.runtime.found() if process.mark.role != "agent"]
        for role in _SWEEP_ORDER:
            grace = 10.0 if role in ("shim", "consul") else 3.0
            mine = [process for process in found if process.mark.role == role]
            await asyncio.gather(*(self.runtime.end(process, grace) for process in mine))
        self.runtime.forget_bootstraps()
        return sorted({process.mark.instance or process.mark.role for process in found})

    def _held_ingress_port(self) -> int | None:
        return next((p.mark.ports["public"] for p in marked(self.home) if p.mark.role == GATEWAY), None)

    def _wake(self) -> None:
        if self.loop is not None:
            self.loop.wake()

    async def _consul_address(self, binary: Path) -> ConsulAddress:
        """Of the existing Consul in the settings, or of ours, which is started where it doesn't run."""
        configured = self.settings.consul
        if configured.address is not None:
            self.consul_url = configured.address
            grpc = configured.grpc_address
            if grpc is None:
                consul = Consul(configured.address, configured.token)
                try:
                    grpc = await consul.grpc_address()
                finally:
                    await consul.close()
            return ConsulAddress(binary, configured.address, grpc, configured.token)
        holding = any(process.mark.role == "consul" for process in marked(self.home))
        ports = self.memory.ports(CONSUL_PORTS, self.infrastructure, self.claimed_ports(), holding=holding)
        self.embedded = EmbeddedConsul(binary, self.name, self.home, ports)
        await self._start_consul(self.embedded)
        self.consul_url = self.embedded.address
        return ConsulAddress(binary, self.embedded.address, self.embedded.grpc_address)

    async def _start_consul(self, embedded: EmbeddedConsul) -> None:
        await embedded.start(
            lambda line: self.journal.say(Level.PROGRESS, line, "consul"), self.settings.consul.start_seconds
        )
