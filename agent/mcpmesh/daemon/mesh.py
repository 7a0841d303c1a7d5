"""One mesh, composed: Consul, the loop and everything that it works with."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from mcpmesh.consul.binary import Sources, find_or_make
from mcpmesh.consul.client import Consul
from mcpmesh.consul.registration import LOOPBACK
from mcpmesh.consul.server import PORTS as CONSUL_PORTS
from mcpmesh.consul.server import ROLE as CONSUL
from mcpmesh.consul.server import EmbeddedConsul
from mcpmesh.daemon.credentials import Credentials
from mcpmesh.daemon.memory import INGRESS_PORT, Memory
from mcpmesh.daemon.scaling import Scaling
from mcpmesh.envoy import proxy
from mcpmesh.envoy.admin import Admin
from mcpmesh.envoy.bootstrap import ConsulAddress
from mcpmesh.errors import MeshError, SettingsError
from mcpmesh.ingress.kong import own
from mcpmesh.ingress.kong import process as kong_process
from mcpmesh.ingress.kong.admin import KongAdmin
from mcpmesh.ingress.kong.document import Content
from mcpmesh.ingress.kong.hands import KongHands
from mcpmesh.ingress.kong.look import KongLook
from mcpmesh.ingress.kong.own import Own
from mcpmesh.ingress.kong.plugins import plugins
from mcpmesh.kit.ports import Ports
from mcpmesh.kit.process import marked, wait_for_any_end
from mcpmesh.model.names import AGENT, AGENT_IDENTITY
from mcpmesh.model.service import Catalog
from mcpmesh.model.status import Level
from mcpmesh.plan.desired import Desired
from mcpmesh.reconcile.apply import Applier, Hands
from mcpmesh.reconcile.desire import KongWish, desire, kong_content, nothing
from mcpmesh.reconcile.journal import Journal
from mcpmesh.reconcile.loop import Loop
from mcpmesh.reconcile.observe import Observer
from mcpmesh.reconcile.prover import Prover
from mcpmesh.settings import Settings
from mcpmesh.verify.world import KongWorld
from mcpmesh.workload.containers.runtime import Containers
from mcpmesh.workload.process import Processes
from mcpmesh.workload.runtime import GATEWAY, PLAIN, SERVER, SHIM, SIDECAR, Runtime

# How soon a document that somebody else handed to Kong, or a Kong that lost ours, is noticed.
_KONG_LOOK_SECONDS = 1.0
_SIDECAR_PORT = "ingress sidecar"

# Who goes first when a mesh is swept away without asking: callers before what they call.
_SWEEP_ORDER = (kong_process.ROLE, GATEWAY, SIDECAR, SHIM, PLAIN, SERVER, CONSUL)


def _upstream(service: str) -> str:
    return f"ingress to {service}"


class Mesh:
    """The running parts; `bring_up` makes them, `close` lets go of them (they run on)."""

    def __init__(self, settings: Settings, name: str, journal: Journal, documents: Path | None = None) -> None:
        self.settings = settings
        self.documents = settings.kong.documents or documents
        self.kong_admin = KongAdmin()
        self._own = Own()
        # Looked at behind an API gateway too: a Kong that somebody else runs may hold our document of an earlier time.
        self._kong_look = KongLook(name, self.kong_admin, settings.kong.admin, settings.kong.start_seconds)
        self.name = name
        self.home = settings.home(name)
        self.journal = journal
        self.memory = Memory(self.home)
        self.scaling = Scaling(self.home)
        self.infrastructure = Ports(settings.ports.infrastructure)
        self.ports = Ports(settings.ports.services)
        self.runtime: Runtime = (
            Containers(settings, name, self.home)
            if settings.runtime == "containers"
            else Processes(name, self.home, self.ports, settings.ingress.names)
        )
        self.admin = Admin(self.runtime.sockets)
        self.embedded: EmbeddedConsul | None = None
        self.consul: Consul | None = None
        self.loop: Loop | None = None
        self.ingress_port = 0
        self.wanted = True
        self._ingress_hosts = (settings.ingress.host, LOOPBACK)
        self.consul_url = ""
        self.credentials: Credentials | None = None
        self._prover: Prover | None = None

    @property
    def ingress_url(self) -> str:
        """The ingress as a client writes it."""
        return self.settings.ingress.url or self.ingress_inside

    @property
    def ingress_inside(self) -> str:
        """The ingress as the agent reaches it."""
        host = self._ingress_hosts[0]
        host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - what people ask for, not what we choose
        return f"http://[{host}]:{self.ingress_port}" if ":" in host else f"http://{host}:{self.ingress_port}"

    def claimed_ports(self) -> set[int]:
        """Ports that any mesh of this machine holds or has set aside."""
        return {port for process in marked() for port in process.mark.ports.values()}

    def desired(self, catalog: Catalog) -> Desired:
        """What the catalog wants of this mesh; nothing while the mesh itself is not wanted."""
        if not self.wanted:
            return nothing(self.name, self.settings.ingress.service)
        catalog = self.scaling.applied(catalog)
        ingress, key = self.settings.ingress, self.memory.key()
        kong = self._kong_wish(catalog) if self.kong_wanted else None
        host, inside = self._ingress_hosts
        return desire(catalog, self.name, key, ingress.service, host, self.ingress_port, kong, inside)

    # --- Kong

    @cached_property
    def kong_wanted(self) -> bool:
        """Whether Kong is the ingress: asked for, or found where nothing was said.

        Raises SettingsError where it was asked for and there is none.
        """
        kind, kong = self.settings.ingress.kind, self.settings.kong
        if kind == "api-gateway":
            return False
        there = kong.admin is not None or kong_process.find_kong(kong.binary) is not None
        if kind == "kong" and not there:
            raise SettingsError(
                "cannot have Kong as the ingress: there is none on PATH; install it, set MCPMESH_KONG__BINARY or "
                "MCPMESH_KONG__ADMIN, or MCPMESH_INGRESS__KIND=api-gateway"
            )
        return there

    @property
    def asks_for_credentials(self) -> bool:
        """Whether the settings have the ingress let in only who shows a credential; the agent has none."""
        return self.kong_wanted and (self.settings.kong.key_auth or self.settings.kong.jwt)

    @property
    def ingress_kind(self) -> str:
        """What stands at the ingress: "kong" or "api-gateway"; as asked for where there is no Kong."""
        try:
            return "kong" if self.kong_wanted else "api-gateway"
        except SettingsError:
            return self.settings.ingress.kind

    async def read_documents(self, catalog: Catalog) -> bool:
        """Reads a person's own documents for Kong, if they are of use; whether they differ from before.

        DocumentError leaves those of before in force.
        """
        if not self.kong_wanted or self.documents is None:
            return False
        found = await asyncio.to_thread(own.read_folder, self.documents)
        wish = self._kong_wish(catalog)
        found.check(kong_content(catalog, self.name, replace(wish, own=Own()), wish.ports.keys()))
        before, self._own = self._own, found
        return before != found

    def kong_document(self, catalog: Catalog) -> Content | None:
        """What Kong is handed when all services serve; None where Kong is not the ingress."""
        if not self.kong_wanted:
            return None
        wish = self._kong_wish(catalog)
        return kong_content(catalog, self.name, wish, wish.ports.keys())

    def kong_world(self) -> KongWorld | None:
        """What `verify` is told about Kong; None where it is not the ingress."""
        if not self.kong_wanted:
            return None
        return KongWorld(self.kong_admin, self.settings.kong.admin, tuple(self._own.paths))

    async def watch_kong(self) -> None:
        """Wakes the loop when Kong goes by another document than at the last look, or answers again; never returns."""
        while self.kong_wanted:
            await asyncio.sleep(_KONG_LOOK_SECONDS)
            loop = self.loop
            if loop is None or loop.observed is None or loop.observed.kong is None:
                continue
            process = loop.kong_process()
            url = self._kong_look.address(process)
            if url is not None and await self._kong_look.hash(url) != loop.observed.kong.hash:
                loop.wake()
        await asyncio.Event().wait()

    def _kong_wish(self, catalog: Catalog) -> KongWish:
        kong = self.settings.kong
        routed = [name for name, spec in catalog.services.items() if spec.route]
        ingress_id = nothing(self.name, self.settings.ingress.service).ingress_id
        holding = any(p.mark.role == SIDECAR and p.mark.instance == ingress_id for p in marked(self.home))
        ports = self.memory.ports_for(
            [_SIDECAR_PORT, *map(_upstream, routed)],
            self.ports,
            self.claimed_ports(),
            holding=holding,
        )
        return KongWish(
            sidecar_port=ports[_SIDECAR_PORT],
            ports={name: ports[_upstream(name)] for name in routed},
            plugins=plugins(kong),
            own=self._own,
            digest=kong_process.digest(kong_process.find_kong(kong.binary), self.settings.ingress.host, kong),
        )

    # --- its life

    async def bring_up(self, catalog: Catalog) -> Loop:
        """Finds or starts Consul and sets the loop up; the caller runs it."""
        settings = self.settings
        # Without them Kong could let in whom they keep out.
        await self.read_documents(catalog)
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
        self.ingress_port = self._ingress_port()
        # An ingress that is not there yet holds up no service; it is looked for again.
        await self.ingress_moved()
        self._prover = Prover(self.credentials, settings.agent.proof_seconds, self._wake)
        observer = Observer(
            self.name, self.home, self.consul, self.runtime, self.admin, self._prover, self.ports, self._kong_look
        )
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
            kong=KongHands(self.name, self.home, settings.ingress, settings.kong, self.kong_admin, self.ports),
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

    async def ingress_moved(self) -> bool:
        """Whether the ingress is reached elsewhere than it was, as after its container was started again."""
        before = self._ingress_hosts
        with suppress(MeshError):  # while it does not run, nobody knows where it will
            self._ingress_hosts = await self.runtime.ingress_hosts() or before
        return self._ingress_hosts != before

    async def close(self) -> None:
        """Lets go of everything; what runs, runs on."""
        if self._prover:
            await self._prover.close()
        await self.admin.close()
        await self.kong_admin.close()
        await self.runtime.close()
        if self.consul:
            await self.consul.close()

    async def sweep(self) -> list[str]:
        """Ends every process of this mesh that is still there, callers first; returns what they were."""
        found = [process for process in await self.runtime.found() if process.mark.role != AGENT]
        for role in _SWEEP_ORDER:
            grace = 10.0 if role in (SHIM, CONSUL) else 3.0
            mine = [process for process in found if process.mark.role == role]
            await asyncio.gather(*(self.runtime.end(process, grace) for process in mine))
            if role == kong_process.ROLE:
                await kong_process.end_leftover(self.home)
                kong_process.forget(self.home)
        self.runtime.forget_bootstraps()
        return sorted({process.mark.instance or process.mark.role for process in found})

    def _ingress_port(self) -> int:
        """Ours to open, or that of a Kong which listens there already."""
        settings = self.settings
        if self.kong_wanted and settings.kong.admin is not None:
            return settings.ingress.port or INGRESS_PORT
        return self.memory.ingress_port(
            settings.ingress,
            self.claimed_ports(),
            self._held_ingress_port(),
            lambda sentence: self.journal.say(Level.CHANGE, sentence, settings.ingress.service),
        )

    def _held_ingress_port(self) -> int | None:
        roles = (GATEWAY, kong_process.ROLE)
        return next((p.mark.ports["public"] for p in marked(self.home) if p.mark.role in roles), None)

    def _wake(self) -> None:
        if self.loop is not None:
            self.loop.wake()

    async def _consul_address(self, binary: Path) -> ConsulAddress:
        """Of the existing Consul in the settings, or of ours, which is started where it doesn't run."""
        configured = self.settings.consul
        if configured.address is not None:
            self.consul_url = configured.url or configured.address
            grpc = configured.grpc_address
            if grpc is None:
                consul = Consul(configured.address, configured.token)
                try:
                    grpc = await consul.grpc_address()
                finally:
                    await consul.close()
            return ConsulAddress(binary, configured.address, grpc, configured.token)
        holding = any(process.mark.role == CONSUL for process in marked(self.home))
        ports = self.memory.ports(CONSUL_PORTS, self.infrastructure, self.claimed_ports(), holding=holding)
        self.embedded = EmbeddedConsul(binary, self.name, self.home, ports)
        await self._start_consul(self.embedded)
        self.consul_url = self.embedded.address
        return ConsulAddress(binary, self.embedded.address, self.embedded.grpc_address)

    async def _start_consul(self, embedded: EmbeddedConsul) -> None:
        await embedded.start(
            lambda line: self.journal.say(Level.PROGRESS, line, "consul"), self.settings.consul.start_seconds
        )
