"""One mesh, composed of its parts: runtime, Consul, Kong, the reconcile loop and what the loop works with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from mcpmesh.consul.embedded_consul import ROLE as CONSUL
from mcpmesh.consul.registration import LOOPBACK
from mcpmesh.daemon.intervals import DEFAULT_INTERVALS, Intervals
from mcpmesh.daemon.mesh_consul import MeshConsul
from mcpmesh.daemon.mesh_kong import MeshKong
from mcpmesh.daemon.scale_overrides import ScaleOverrides
from mcpmesh.daemon.state_store import INGRESS_PORT, StateStore, marked_ports
from mcpmesh.envoy import envoy_program
from mcpmesh.envoy.envoy_admin import EnvoyAdmin
from mcpmesh.errors import MeshError, PeerError
from mcpmesh.ingress.kong import kong_process
from mcpmesh.kit.marked_process import find_marked
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.model.agent_reports import Level
from mcpmesh.model.reserved_names import AGENT
from mcpmesh.model.service import Catalog
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.reconcile.action_executor import ActionExecutor
from mcpmesh.reconcile.action_targets import ActionTargets
from mcpmesh.reconcile.applier import Applier
from mcpmesh.reconcile.desired_from_catalog import build_desired_state, empty_desired_state
from mcpmesh.reconcile.drain_tracker import DrainTracker
from mcpmesh.reconcile.envoy_launcher import EnvoyLauncher
from mcpmesh.reconcile.event_journal import Journal
from mcpmesh.reconcile.observer import Observer
from mcpmesh.reconcile.port_claims import PortClaims
from mcpmesh.reconcile.program_starter import ProgramStarter
from mcpmesh.reconcile.proof_attempt import prove_through_sidecar
from mcpmesh.reconcile.prover import Prover
from mcpmesh.reconcile.reconcile_loop import ReconcileLoop
from mcpmesh.reconcile.retry_budgets import RetryBudgets
from mcpmesh.settings import Settings
from mcpmesh.workload.containers.container_runtime import ContainerRuntime
from mcpmesh.workload.process_runtime import ProcessRuntime
from mcpmesh.workload.runtime import GATEWAY, PLAIN, SERVER, SHIM, SIDECAR, Runtime

# The order in which `sweep` ends processes by role: callers before what they call.
_SWEEP_ORDER = (kong_process.ROLE, GATEWAY, SIDECAR, SHIM, PLAIN, SERVER, CONSUL)

# A failure is reported after this at the latest, even while Docker does not answer.
_LIST_SECONDS = 5.0


class Mesh:
    """The parts of a mesh; `bring_up` sets them up, `close` closes the connections to them (they keep running).

    While `is_wanted` is false, nothing has to run. `desired_known` is set once it is known what has to run: there is a
    catalog, or the mesh is not wanted. Until then what runs is left alone. `failure` is why the last `bring_up` failed,
    `leftover_services` are the services of which something ran then (None where that can't be read).
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        journal: Journal,
        documents: Path | None = None,
        intervals: Intervals = DEFAULT_INTERVALS,
    ) -> None:
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
        self.kong = MeshKong(settings, name, self.home, self.state_store, self.ports, documents, intervals)
        self.loop: ReconcileLoop | None = None
        self.is_wanted = True
        self.desired_known = asyncio.Event()
        self.failure: str | None = None
        self.leftover_services: set[str] | None = None
        self._catalog: Catalog | None = None
        self._ingress_port = 0
        self._ingress_hosts = (settings.ingress.host, LOOPBACK)
        self._prover: Prover | None = None

    @property
    def ingress_url(self) -> str:
        """The ingress's URL for clients."""
        return self.settings.ingress.url or self.ingress_url_for_agent

    @property
    def ingress_url_for_agent(self) -> str:
        """The ingress's URL for the agent itself."""
        host = self._ingress_hosts[0]
        host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - the user's setting, not our choice
        return f"http://[{host}]:{self._ingress_port}" if ":" in host else f"http://{host}:{self._ingress_port}"

    async def note_failure(self, reason: str) -> None:
        """Keeps why it could not be brought up, and which services an earlier agent left running."""
        leftover_services = None
        with suppress(PeerError, TimeoutError):
            async with asyncio.timeout(_LIST_SECONDS):
                leftover_services = {process.mark.service for process in await self.runtime.list_processes()}
        self.failure, self.leftover_services = reason, leftover_services

    async def bring_up(self) -> ReconcileLoop:
        """Finds or starts Consul, and sets up the loop, which the caller runs."""
        settings = self.settings
        await self._read_documents()
        binary = await self.consul.binary()
        envoy = envoy_program.find_envoy(settings.envoy.binary)
        consul = await self.consul.connect(binary)
        self._ingress_port = self._choose_ingress_port()
        # No service waits for an ingress that does not run yet; its address is read again later.
        await self.refresh_ingress_hosts()
        exchange = partial(prove_through_sidecar, consul.credentials)
        self._prover = Prover(exchange, settings.agent.proof_seconds, self.wake)
        claims, drains = PortClaims(self.ports), DrainTracker()
        observer = Observer(
            mesh=self.name,
            consul=consul.client,
            runtime=self.runtime,
            admin=self.admin,
            prover=self._prover,
            claims=claims,
            drains=drains,
            kong=self.kong.observer,
        )
        targets = ActionTargets(consul.client, self.runtime, self.admin, self.kong.control, claims, drains)
        launcher = EnvoyLauncher(self.name, self.home, consul.address, envoy, settings.envoy)
        executor = ActionExecutor(targets, ProgramStarter(targets, launcher), self.journal)
        # What has to run may have become unknown meanwhile.
        await self.desired_known.wait()
        await self._read_documents()
        self.loop = ReconcileLoop(
            self.desired(self._catalog),
            observer,
            Applier(executor, self.journal),
            RetryBudgets(self.admin),
            self.journal,
            self.ingress_url,
            settings.agent.pass_seconds,
        )
        return self.loop

    async def _read_documents(self) -> None:
        """Reads the user's documents for Kong: without these Kong could admit callers that they keep out."""
        if self.is_wanted and self._catalog is not None:
            await self.kong.read_documents(self._catalog)

    def desired(self, catalog: Catalog | None) -> DesiredState:
        """The desired state for this catalog; nothing while the mesh is not wanted."""
        ingress = self.settings.ingress
        if not self.is_wanted or catalog is None:
            return empty_desired_state(self.name, ingress.service)
        catalog = self.scale_overrides.apply_to(catalog)
        key, kong = self.state_store.key(), self.kong.desired_kong(catalog)
        host, inside = self._ingress_hosts
        return build_desired_state(catalog, self.name, key, ingress.service, host, self._ingress_port, kong, inside)

    def set_catalog(self, catalog: Catalog | None) -> None:
        """Makes this catalog the desired state from the next pass on; None, before there was one, changes nothing."""
        if catalog is None and self.is_wanted:
            if self.loop is None:
                self.desired_known.clear()
            return
        self._catalog = catalog
        self.desired_known.set()
        if self.loop is not None:
            self.loop.set_desired(self.desired(catalog))

    def remove_everything(self) -> None:
        """Takes everything down from the next pass on, whatever the catalog says."""
        self.is_wanted = False
        if self.loop is not None:
            self.loop.paused = False
        self.set_catalog(Catalog({}))

    def wake(self) -> None:
        """Asks for a pass now, since something has changed."""
        if self.loop is not None:
            self.loop.notify_change()

    @contextmanager
    def reporting_problems(self, service: str) -> Iterator[None]:
        """Reports a MeshError in the journal instead of raising it; `failure` has been reported already."""
        try:
            yield
        except MeshError as error:
            if str(error) != self.failure:
                self.journal.record(Level.TROUBLE, str(error), service)

    async def refresh_ingress_hosts(self) -> bool:
        """Reads the ingress's addresses; returns whether they changed, as after a restart of its container."""
        before = self._ingress_hosts
        with suppress(MeshError):  # while it does not run it has no address
            self._ingress_hosts = await self.runtime.ingress_hosts() or before
        return self._ingress_hosts != before

    async def close(self) -> None:
        """Closes all connections; what runs keeps running."""
        if self._prover:
            await self._prover.close()
        await self.admin.close()
        await self.kong.close()
        await self.runtime.close()
        await self.consul.close()

    async def sweep(self) -> list[str]:
        """Ends every process of this mesh that still runs, callers first; returns their names."""
        found = [process for process in await self.runtime.list_processes() if process.mark.role != AGENT]
        for role in _SWEEP_ORDER:
            grace = 10.0 if role in (SHIM, CONSUL) else 3.0
            of_role = [process for process in found if process.mark.role == role]
            await asyncio.gather(*(self.runtime.end(process, grace) for process in of_role))
            if role == kong_process.ROLE:
                await kong_process.end_leftover(self.home)
                kong_process.remove_working_folder(self.home)
        self.runtime.remove_bootstraps()
        return sorted({process.mark.instance or process.mark.role for process in found})

    def _choose_ingress_port(self) -> int:
        """The port for our ingress, or the port of an external Kong."""
        settings, roles = self.settings.ingress, (GATEWAY, kong_process.ROLE)
        if self.kong.is_external:
            return settings.port or INGRESS_PORT
        return self.state_store.ingress_port(
            settings,
            marked_ports(),
            next((p.mark.ports["public"] for p in find_marked(self.home) if p.mark.role in roles), None),
            lambda sentence: self.journal.record(Level.CHANGE, sentence, settings.service),
        )
