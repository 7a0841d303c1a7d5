"""One mesh, composed: Consul, the loop and everything that it works with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mcpmesh.consul.embedded_consul import ROLE as CONSUL
from mcpmesh.consul.registration import LOOPBACK
from mcpmesh.daemon.mesh_consul import MeshConsul
from mcpmesh.daemon.mesh_kong import MeshKong
from mcpmesh.daemon.scale_overrides import ScaleOverrides
from mcpmesh.daemon.state_store import INGRESS_PORT, StateStore, claimed_ports
from mcpmesh.envoy import envoy_program
from mcpmesh.envoy.envoy_admin import EnvoyAdmin
from mcpmesh.errors import MeshError, PeerError
from mcpmesh.ingress.kong import kong_process
from mcpmesh.kit.marked_process import find_marked
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.model.report_items import Level
from mcpmesh.model.reserved_names import AGENT
from mcpmesh.model.service import Catalog
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.reconcile.applier import Applier, Hands
from mcpmesh.reconcile.desired_from_catalog import build_desired_state, empty_desired_state
from mcpmesh.reconcile.journal import Journal
from mcpmesh.reconcile.observer import Observer
from mcpmesh.reconcile.prover import Prover
from mcpmesh.reconcile.reconcile_loop import ReconcileLoop
from mcpmesh.settings import Settings
from mcpmesh.workload.containers.container_runtime import ContainerRuntime
from mcpmesh.workload.process_runtime import ProcessRuntime
from mcpmesh.workload.runtime import GATEWAY, PLAIN, SERVER, SHIM, SIDECAR, Runtime

# Who goes first when a mesh is swept away without asking: callers before what they call.
_SWEEP_ORDER = (kong_process.ROLE, GATEWAY, SIDECAR, SHIM, PLAIN, SERVER, CONSUL)

# A Docker that hangs is not waited for before it is told what failed.
_LEFT_SECONDS = 5.0


class Mesh:
    """The running parts; `bring_up` makes them, `close` lets go of them (they run on).

    While `wanted` is false nothing is. `known` is set once it can be told what is wanted, which needs a catalog or that
    nothing is; until then what runs is left alone. `failure` is why the mesh could not be brought up the last time;
    `left` are the services of which something ran then, None where that could not be told.
    """

    def __init__(self, settings: Settings, name: str, journal: Journal, documents: Path | None = None) -> None:
        self.settings = settings
        self.name = name
        self.home = settings.home(name)
        self.journal = journal
        self.scale_overrides = ScaleOverrides(self.home)
        self.state_store = StateStore(self.home)
        self.ports = PortAllocator(settings.ports.services)
        self.runtime: Runtime = (
            ContainerRuntime(settings, name, self.home)
            if settings.runtime == "containers"
            else ProcessRuntime(name, self.home, self.ports, settings.ingress.names)
        )
        self.admin = EnvoyAdmin(self.runtime.socket_folder)
        self.consul = MeshConsul(settings, name, self.home, self.state_store, journal)
        self.kong = MeshKong(settings, name, self.home, self.state_store, self.ports, documents)
        self.loop: ReconcileLoop | None = None
        self.wanted = True
        self.known = asyncio.Event()
        self.failure: str | None = None
        self.left: set[str] | None = None
        self._catalog: Catalog | None = None
        self._ingress_port = 0
        self._ingress_hosts = (settings.ingress.host, LOOPBACK)
        self._prover: Prover | None = None

    @property
    def ingress_url(self) -> str:
        """The ingress as a client writes it."""
        return self.settings.ingress.url or self.ingress_url_for_agent

    @property
    def ingress_url_for_agent(self) -> str:
        """The ingress as the agent reaches it."""
        host = self._ingress_hosts[0]
        host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - what people ask for, not what we choose
        return f"http://[{host}]:{self._ingress_port}" if ":" in host else f"http://{host}:{self._ingress_port}"

    async def fail(self, why: str) -> None:
        """Remembers why it could not be brought up, and what an earlier agent has left running."""
        left = None
        with suppress(PeerError, TimeoutError):
            async with asyncio.timeout(_LEFT_SECONDS):
                left = {process.mark.service for process in await self.runtime.list_processes()}
        self.failure, self.left = why, left

    async def bring_up(self) -> ReconcileLoop:
        """Finds or starts Consul and sets the loop up; the caller runs it."""
        settings = self.settings
        await self._read_documents()
        binary = await self.consul.binary()
        envoy = envoy_program.find_envoy(settings.envoy.binary)
        consul = await self.consul.reach(binary)
        self._ingress_port = self._port_of_ingress()
        # An ingress that is not there yet holds up no service; it is looked for again.
        await self.ingress_moved()
        self._prover = Prover(consul.credentials, settings.agent.proof_seconds, self.wake)
        observer = Observer(
            self.name, self.home, consul.client, self.runtime, self.admin, self._prover, self.ports, self.kong.observer
        )
        hands = Hands(
            mesh=self.name,
            home=self.home,
            consul=consul.client,
            consul_address=consul.address,
            runtime=self.runtime,
            admin=self.admin,
            envoy=envoy,
            envoy_settings=settings.envoy,
            observer=observer,
            journal=self.journal,
            kong=self.kong.control,
        )
        # It may have become unknown meanwhile, and known again.
        await self.known.wait()
        await self._read_documents()
        self.loop = ReconcileLoop(
            self.desired(self._catalog),
            observer,
            Applier(hands),
            self.journal,
            self.ingress_url,
            settings.agent.pass_seconds,
        )
        return self.loop

    async def _read_documents(self) -> None:
        """Without a person's own Kong could let in whom they keep out."""
        if self.wanted and self._catalog is not None:
            await self.kong.read_documents(self._catalog)

    def desired(self, catalog: Catalog | None) -> DesiredState:
        """What the catalog wants of this mesh; nothing while the mesh itself is not wanted."""
        ingress = self.settings.ingress
        if not self.wanted or catalog is None:
            return empty_desired_state(self.name, ingress.service)
        catalog, key, kong = self.scale_overrides.applied(catalog), self.state_store.key(), self.kong.wish(catalog)
        host, inside = self._ingress_hosts
        return build_desired_state(catalog, self.name, key, ingress.service, host, self._ingress_port, kong, inside)

    def want(self, catalog: Catalog | None) -> None:
        """Goes by this catalog from the next pass on; where none could be read yet, all stays as it is."""
        if catalog is None and self.wanted:
            if self.loop is None:
                self.known.clear()
            return
        self._catalog = catalog
        self.known.set()
        if self.loop is not None:
            self.loop.set_desired(self.desired(catalog))

    def want_nothing(self) -> None:
        """Takes everything down from the next pass on, whatever the catalog says."""
        self.wanted = False
        if self.loop is not None:
            self.loop.paused = False
        self.want(Catalog({}))

    def wake(self) -> None:
        """Asks for a pass now: something has changed."""
        if self.loop is not None:
            self.loop.notify_change()

    @contextmanager
    def reporting_problems(self, service: str) -> Iterator[None]:
        """Says what a person can mend, and goes on; not again what keeps the mesh from coming up."""
        try:
            yield
        except MeshError as error:
            if str(error) != self.failure:
                self.journal.record(Level.TROUBLE, str(error), service)

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
        await self.kong.close()
        await self.runtime.close()
        await self.consul.close()

    async def sweep(self) -> list[str]:
        """Ends every process of this mesh that is still there, callers first; returns what they were."""
        found = [process for process in await self.runtime.list_processes() if process.mark.role != AGENT]
        for role in _SWEEP_ORDER:
            grace = 10.0 if role in (SHIM, CONSUL) else 3.0
            mine = [process for process in found if process.mark.role == role]
            await asyncio.gather(*(self.runtime.end(process, grace) for process in mine))
            if role == kong_process.ROLE:
                await kong_process.end_leftover(self.home)
                kong_process.remove_working_folder(self.home)
        self.runtime.remove_bootstraps()
        return sorted({process.mark.instance or process.mark.role for process in found})

    def _port_of_ingress(self) -> int:
        """Ours to open, or that of a Kong which listens there already."""
        settings, roles = self.settings.ingress, (GATEWAY, kong_process.ROLE)
        if self.kong.elsewhere:
            return settings.port or INGRESS_PORT
        return self.state_store.ingress_port(
            settings,
            claimed_ports(),
            next((p.mark.ports["public"] for p in find_marked(self.home) if p.mark.role in roles), None),
            lambda sentence: self.journal.record(Level.CHANGE, sentence, settings.service),
        )
