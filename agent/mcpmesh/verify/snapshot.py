"""One look at the running system, which all claims of one `verify` go by; the probing starts from here."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import httpx

from mcpmesh.consul.leaf_certificate import Identity
from mcpmesh.errors import MeshError
from mcpmesh.kit.marked_process import Process
from mcpmesh.mcp.through_sidecar import Door
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import Entry, Intention, Registration, Unknown
from mcpmesh.model.service import Plain
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.claims.route_paths import UNDECLARED
from mcpmesh.verify.finding import ANSWER_SECONDS, CannotTry
from mcpmesh.verify.probes import foreign_certificate
from mcpmesh.verify.probes import namespaces as ground
from mcpmesh.verify.probes.consul_catalog import CatalogReader
from mcpmesh.verify.probes.listening_sockets import Sockets
from mcpmesh.verify.probes.namespaces import Ground
from mcpmesh.verify.probes.process_tree import Tree
from mcpmesh.verify.probes.tcp_probe import Reply, knock, request
from mcpmesh.verify.target import AGENT_IDENTITY, GATEWAY, KONG, SIDECAR, STRANGER_IDENTITY, World
from mcpmesh.workload.runtime import PLAIN, SHIM

T = TypeVar("T")


@dataclass(frozen=True)
class Seat:
    """One wanted instance: what Consul has of it, and the processes that bear its mark."""

    wanted: DesiredService
    instance: Instance
    registration: Registration | None
    programs: tuple[Process, ...]
    envoys: tuple[Process, ...]

    @property
    def id(self) -> str:
        """The instance's name everywhere."""
        return self.instance.id

    @property
    def shim(self) -> tuple[str, int] | None:
        """Host and port of its shim, by its mark; None without one."""
        if not self.wanted.spec.is_mcp or not self.programs:
            return None
        return self.programs[0].private_host, self.programs[0].mark.ports["http"]

    @property
    def elsewhere(self) -> tuple[str, int] | None:
        """Host and port of a plain service that somebody else runs."""
        start = self.wanted.spec.start
        if not isinstance(start, Plain) or start.address is None:
            return None
        host, _, port = start.address.rpartition(":")
        return host.strip("[]"), int(port)


@dataclass(frozen=True)
class Facts:
    """What was read; a peer that could not be is `Unknown`, and the claims that need it fail with its reason."""

    world: World
    http: httpx.AsyncClient
    catalog: CatalogReader
    registrations: dict[str, Registration] | Unknown
    entries: dict[tuple[str, str], Entry] | Unknown
    intentions: tuple[Intention, ...] | Unknown
    agent: Identity | Unknown
    stranger: Identity | Unknown
    foreigner: ssl.SSLContext
    front: Reply
    processes: tuple[Process, ...]
    ground: Ground

    @property
    def tree(self) -> Tree:
        """Which process came from which."""
        return self.ground.tree

    @property
    def sockets(self) -> Sockets:
        """The listeners in our own network namespace, where the mesh is in it too."""
        return self.ground.here or Sockets((), {})

    def seats(self, wanted: DesiredService) -> list[Seat]:
        """One for each wanted instance."""
        known = self.registrations if not isinstance(self.registrations, Unknown) else {}
        return [
            Seat(
                wanted,
                instance,
                known.get(instance.id),
                self.of(instance.id, SHIM, PLAIN),
                self.of(instance.id, SIDECAR),
            )
            for instance in wanted.instances
        ]

    @property
    def routes(self) -> dict[str, str]:
        """The declared path of each service that has one."""
        services = self.world.desired.services.items()
        return {name: wanted.spec.route for name, wanted in services if wanted.spec.route}

    def of(self, instance: str, *roles: str) -> tuple[Process, ...]:
        """The processes of an instance in these roles, without what they have started (it bears their mark too)."""
        found = [p for p in self.processes if p.mark.instance == instance and p.mark.role in roles]
        pids = {process.pid for process in found}
        return tuple(p for p in found if self.tree.ancestor_in(self.parent(p.pid), pids) is None)

    def parent(self, pid: int) -> int:
        """Its parent's pid; 0 where it has ended."""
        found = self.tree.kin.get(pid)
        return found.parent if found else 0

    def registered(self, seat: Seat) -> Registration:
        """Consul's own answer about an instance; CannotTry without one."""
        known(self.registrations, self.world)
        if seat.registration is None:
            raise CannotTry(f"{seat.id} is not registered in Consul", self.world.mended_by_agent)
        return seat.registration

    def door(self, seat: Seat) -> Door:
        """The sidecar's listener as Consul has it, and who must answer there; CannotTry without one."""
        registration = self.registered(seat)
        port = registration.sidecar_port
        if port is None:
            raise CannotTry(f"the sidecar of {seat.id} is not registered in Consul", self.world.mended_by_agent)
        return Door(port, self.spiffe(seat.wanted.spec.name), registration.sidecar_host)

    def spiffe(self, service: str) -> str:
        """The SPIFFE id of a service of this mesh; CannotTry where Consul would not say its trust domain."""
        identity = known(self.agent, self.world)
        return f"{identity.spiffe.rpartition('/svc/')[0]}/svc/{service}"

    def envoy_trouble(self, instance: str, role: str, program: str = "Envoy") -> tuple[str, str]:
        """What can be said of an Envoy that does not do as it should, and the next step."""
        log = self.world.log(f"{instance}.{role}")
        found = self.of(instance, role)
        if not found:
            return f"no {program} of ours runs for it", f"{self.world.mended_by_agent}; its last words are in {log}"
        pid = found[0].pid
        if self.tree.stopped(pid):
            return f"its {program} (pid {pid}) is stopped by a signal", f"let it go on: kill -CONT {pid}"
        return f"its {program} is pid {pid}", f"see its log, {log}"

    def ingress_trouble(self) -> tuple[str, str]:
        """The same of what stands at the ingress."""
        kong, id_ = self.world.kong, self.world.desired.ingress_id
        if kong is None:
            return self.envoy_trouble(id_, GATEWAY)
        if not kong.ours:
            return f"it is the Kong of somebody else, asked at {kong.url}", "see whether that Kong runs, and its log"
        return self.envoy_trouble(id_, KONG, "Kong")


def known(value: T | Unknown, world: World) -> T:
    """The value; CannotTry where it could not be read: nobody then waits for the same silence again."""
    if isinstance(value, Unknown):
        raise CannotTry(value.reason, f"is Consul well? see {world.log('consul')}, and: {world.mcpmesh('status')}")
    return value


async def gather(world: World, http: httpx.AsyncClient, catalog: CatalogReader) -> Facts:
    """Everything at once; never raises for a peer that is unwell."""
    consul = world.consul
    registrations, entries, intentions, agent, stranger, front = await asyncio.gather(
        _read(consul.registrations(world.mesh), "the registrations"),
        _read(consul.entries(world.mesh), "the config entries"),
        _read(consul.intentions(), "the intentions"),
        _read(consul.identity(AGENT_IDENTITY), "a certificate"),
        _read(consul.identity(STRANGER_IDENTITY), "a certificate"),
        _front(world),
    )
    # In this order: a process that is new meanwhile is then missing from the first, and not taken for a stray.
    processes = sorted(await world.runtime.list_processes(), key=lambda process: process.pid)
    found = await ground.look(world.runtime, processes)
    claimed = agent.spiffe if isinstance(agent, Identity) else f"spiffe://unknown/svc/{AGENT_IDENTITY}"
    return Facts(
        world=world,
        http=http,
        catalog=catalog,
        registrations=registrations,
        entries=entries,
        intentions=intentions,
        agent=agent,
        stranger=stranger,
        foreigner=foreign_certificate.foreign_context(claimed),
        front=front,
        processes=tuple(process for process in processes if process.pid in found.tree.kin),
        ground=found,
    )


async def _read(reading: Awaitable[T], what: str) -> T | Unknown:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await reading
    except MeshError as error:
        return Unknown(str(error))
    except TimeoutError:
        return Unknown(f"Consul did not say {what} within {ANSWER_SECONDS:.0f} s")


async def _front(world: World) -> Reply:
    """What the ingress answers for a path that nobody declared: whether it lives is asked once, for all services."""
    url = httpx.URL(world.ingress_url)
    return await knock(url.host, url.port or 80, context=None, say=request(UNDECLARED, url.netloc.decode()))
