"""What was read of the running mesh when a `verify` began. All its claims are judged by this."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TypeVar

import httpx

from mcpmesh.consul.leaf_certificate import Identity
from mcpmesh.kit.marked_process import Process
from mcpmesh.mcp.through_sidecar import SidecarAddress
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import Entry, Intention, Registration, Unknown
from mcpmesh.model.service import Plain
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.finding import CannotTry, Diagnosis
from mcpmesh.verify.probes.consul_catalog import ConsulCatalog
from mcpmesh.verify.probes.listening_sockets import ListeningSockets
from mcpmesh.verify.probes.network_namespaces import NO_SOCKETS, Namespaces
from mcpmesh.verify.probes.process_tree import ProcessTree
from mcpmesh.verify.probes.tcp_probe import Reply
from mcpmesh.verify.process_roles import GATEWAY, KONG, PLAIN, SHIM, SIDECAR
from mcpmesh.verify.target import Target

T = TypeVar("T")

# No catalog has this path by chance.
UNDECLARED_PATH = "/mcp/mcpmesh-verify-undeclared"


@dataclass(frozen=True)
class InstanceView:
    """One wanted instance: its registration in Consul, its programs and its Envoys (each one, as a rule)."""

    wanted: DesiredService
    instance: Instance
    registration: Registration | None
    programs: tuple[Process, ...]
    envoys: tuple[Process, ...]

    @property
    def id(self) -> str:
        """The instance's name in Consul, in marks and in logs."""
        return self.instance.id

    @property
    def shim_address(self) -> tuple[str, int] | None:
        """Host and port of its shim, by its mark; None without a shim."""
        if not self.wanted.spec.is_mcp or not self.programs:
            return None
        return self.programs[0].private_host, self.programs[0].mark.ports["http"]

    @property
    def external_address(self) -> tuple[str, int] | None:
        """Host and port of a plain service that the mesh does not run; None for any other."""
        start = self.wanted.spec.start
        if not isinstance(start, Plain) or start.address is None:
            return None
        host, _, port = start.address.rpartition(":")
        return host.strip("[]"), int(port)


@dataclass(frozen=True)
class Snapshot:
    """What was read. A peer that could not be read is `Unknown`; the claims that need it fail with its reason.

    `http` and `catalog` are for claims that have to ask further. `foreign_context` shows a certificate of another
    CA. `ingress_reply` is what the ingress answers at `UNDECLARED_PATH`.
    """

    target: Target
    http: httpx.AsyncClient
    catalog: ConsulCatalog
    registrations: dict[str, Registration] | Unknown
    entries: dict[tuple[str, str], Entry] | Unknown
    intentions: tuple[Intention, ...] | Unknown
    agent_identity: Identity | Unknown
    stranger_identity: Identity | Unknown
    foreign_context: ssl.SSLContext
    ingress_reply: Reply
    processes: tuple[Process, ...]
    namespaces: Namespaces

    @property
    def process_tree(self) -> ProcessTree:
        """Which process is the parent of which."""
        return self.namespaces.process_tree

    @property
    def host_sockets(self) -> ListeningSockets:
        """The listeners in this machine's own network namespace; none where the mesh is not in it."""
        return self.namespaces.host or NO_SOCKETS

    @property
    def routes(self) -> dict[str, str]:
        """The declared path of each service that has one."""
        services = self.target.desired.services.items()
        return {name: wanted.spec.route for name, wanted in services if wanted.spec.route}

    @property
    def envoys(self) -> list[Process]:
        """Every Envoy of the mesh that runs."""
        return [process for process in self.processes if process.mark.role in (SIDECAR, GATEWAY)]

    def instances_of(self, wanted: DesiredService) -> list[InstanceView]:
        """One for each wanted instance of a service."""
        registrations = {} if isinstance(self.registrations, Unknown) else self.registrations
        return [
            InstanceView(
                wanted,
                instance,
                registrations.get(instance.id),
                self.processes_of(instance.id, SHIM, PLAIN),
                self.processes_of(instance.id, SIDECAR),
            )
            for instance in wanted.instances
        ]

    def processes_of(self, instance: str, *roles: str) -> tuple[Process, ...]:
        """The processes of an instance in these roles, without what they have started (it bears their mark too)."""
        found = [p for p in self.processes if p.mark.instance == instance and p.mark.role in roles]
        pids = {process.pid for process in found}
        tree = self.process_tree
        return tuple(process for process in found if tree.nearest(tree.parent(process.pid), pids) is None)

    def registration_of(self, instance: InstanceView) -> Registration:
        """Consul's registration of an instance; CannotTry without one."""
        require_known(self.registrations, self.target)
        if instance.registration is None:
            raise CannotTry(f"{instance.id} is not registered in Consul", self.target.agent_repairs)
        return instance.registration

    def sidecar_of(self, instance: InstanceView) -> SidecarAddress:
        """The sidecar as Consul has it registered, and the identity that it must have; CannotTry without one."""
        registration = self.registration_of(instance)
        port = registration.sidecar_port
        if port is None:
            raise CannotTry(f"the sidecar of {instance.id} is not registered in Consul", self.target.agent_repairs)
        return SidecarAddress(port, self.spiffe_id(instance.wanted.spec.name), registration.sidecar_host)

    def spiffe_id(self, service: str) -> str:
        """The SPIFFE id of a service of this mesh; CannotTry where Consul's trust domain is not known."""
        identity = require_known(self.agent_identity, self.target)
        return f"{identity.spiffe.rpartition('/svc/')[0]}/svc/{service}"

    def diagnose_envoy(self, instance: str, role: str = SIDECAR, program: str = "Envoy") -> Diagnosis:
        """The state of an instance's Envoy (or other `program`) that does not do as it should."""
        log = self.target.log_file(f"{instance}.{role}")
        found = self.processes_of(instance, role)
        if not found:
            return Diagnosis(
                f"no {program} of ours runs for it", f"{self.target.agent_repairs}; its last output is in {log}"
            )
        pid = found[0].pid
        if self.process_tree.is_stopped(pid):
            return Diagnosis(f"its {program} (pid {pid}) is stopped by a signal", f"let it go on: kill -CONT {pid}")
        return Diagnosis(f"its {program} is pid {pid}", f"see its log, {log}")

    def diagnose_ingress(self) -> Diagnosis:
        """The state of the program at the ingress."""
        kong, ingress = self.target.kong, self.target.desired.ingress_id
        if kong is None:
            return self.diagnose_envoy(ingress, GATEWAY)
        if not kong.run_by_agent:
            return Diagnosis(
                f"it is a Kong that the agent does not run, asked at {kong.url}",
                "see whether that Kong runs, and its log",
            )
        return self.diagnose_envoy(ingress, KONG, "Kong")


def require_known(value: T | Unknown, target: Target) -> T:
    """The value; CannotTry, at once, where it could not be read: a silent peer is not waited for again."""
    if isinstance(value, Unknown):
        step = f"does Consul run? see {target.log_file('consul')}, and: {target.mcpmesh_command('status')}"
        raise CannotTry(value.reason, step)
    return value
