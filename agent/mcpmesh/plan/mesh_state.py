"""What is wanted beside what was seen, with every peer known; questions that both directions ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcpmesh.consul.config_entries import with_reconnect_digest
from mcpmesh.consul.intention_changes import missing_and_stale, policy_digest
from mcpmesh.consul.ownership import DIGEST, POLICY
from mcpmesh.model.observed_state import Entry, Intention, ObservedState, Registration, Unknown
from mcpmesh.model.report_items import Step
from mcpmesh.plan.actions import Action, Allow, Revoke, WriteEntry
from mcpmesh.plan.desired_state import DesiredService, DesiredState

Payload = dict[str, Any]


@dataclass(frozen=True)
class MeshState:
    """One look; `registrations` also holds the ingress."""

    desired: DesiredState
    observed: ObservedState
    registrations: Mapping[str, Registration]
    entries: Mapping[tuple[str, str], Entry]
    intentions: tuple[Intention, ...]

    @classmethod
    def at(cls, desired: DesiredState, observed: ObservedState) -> MeshState | None:
        """None where Consul could not be read."""
        registrations, entries, intentions = observed.registrations, observed.entries, observed.intentions
        if isinstance(registrations, Unknown) or isinstance(entries, Unknown) or isinstance(intentions, Unknown):
            return None
        return cls(desired, observed, registrations, entries, intentions)

    def exposed(self, id_: str) -> bool:
        """Whether callers are sent to that instance: registered, passing, its sidecar ready."""
        known, sidecar = self.registrations.get(id_), self.observed.sidecars.get(id_)
        return bool(known and known.passing and not known.draining and sidecar and sidecar.ready)

    def serving(self, id_: str) -> bool:
        """Whether an exposed instance was proven through its own sidecar; only those wanted are ever proven."""
        proof = self.observed.proofs.get(id_)
        return self.exposed(id_) and bool(proof and proof.ok)

    def told(self, name: str) -> bool:
        """Whether its callers' Envoys know all its exposed instances; where it has a route, the ingress is a caller."""
        exposed = sum(map(self.exposed, self.instances_of(name)))
        calls = {self.desired.ingress_id: 0} if self.routed(name) else {}
        return all(
            envoy.known.get(name, calls.get(id_, exposed)) >= exposed for id_, envoy in self.observed.sidecars.items()
        )

    def routed(self, name: str) -> bool:
        """Whether the ingress leads to a service."""
        return ("http-route", name) in self.entries or name in self.kong_ports

    def led_to(self, name: str) -> bool:
        """Whether the ingress itself has heard that it leads to a service: its Envoy learns later what Consul knows."""
        ingress = self.observed.sidecars.get(self.desired.ingress_id)
        heard = ingress is not None and name in ingress.known
        return self.routed(name) and (heard or name in self.kong_ports)

    @property
    def kong_ports(self) -> Mapping[str, int]:
        """Where Kong sends the calls of each service of ours; nothing where it does not tell (see `kong_silence`)."""
        kong = self.observed.kong
        return {} if kong is None or isinstance(kong.content, Unknown) else kong.content.ports

    @property
    def kong_silence(self) -> str:
        """Why a Kong that is there does not tell where it leads; "" where it tells, and where there is none."""
        kong = self.observed.kong
        return kong.content.reason if kong is not None and isinstance(kong.content, Unknown) else ""

    def instances_of(self, name: str) -> set[str]:
        """Every instance of a service that left a trace anywhere."""
        running = {id_ for id_, workload in self.observed.workloads.items() if workload.service == name}
        known = {id_ for id_, registration in self.registrations.items() if registration.service == name}
        beside = {id_ for id_, sidecar in self.observed.sidecars.items() if sidecar.service == name}
        return running | known | beside

    def services_seen(self) -> set[str]:
        """Every service of ours that left a trace anywhere, the ingress apart."""
        found = {workload.service for workload in self.observed.workloads.values()}
        found |= {sidecar.service for sidecar in self.observed.sidecars.values()}
        found |= {registration.service for registration in self.registrations.values()}
        found |= {entry.name for entry in self.entries.values() if entry.owner == self.desired.mesh}
        found |= {i.destination for i in self.intentions if i.owner == self.desired.mesh}
        return found - {self.desired.ingress_service}

    def foreign(self, payloads: Iterable[Payload]) -> Iterator[Step]:
        """Config entries that we would have to write and that somebody else wrote."""
        for payload in payloads:
            entry = self.entries.get((payload["Kind"], payload["Name"]))
            if entry and entry.owner != self.desired.mesh:
                yield Step(
                    payload["Name"],
                    f"cannot write {entry.kind}/{entry.name}: it exists and was not written by this mesh; "
                    f"rename the service, or: consul config delete -kind {entry.kind} -name {entry.name}",
                    waiting=True,
                )

    def unwritten(self, payloads: Iterable[Payload]) -> Iterator[WriteEntry]:
        """Config entries that are missing or differ."""
        for payload in payloads:
            entry = self.entries.get((payload["Kind"], payload["Name"]))
            meta = payload["Meta"]
            if entry is None or (entry.digest, entry.policy) != (meta[DIGEST], meta.get(POLICY)):
                yield WriteEntry(payload)

    def entries_of(self, wanted: DesiredService) -> list[Payload]:
        """The config entries of a service, such that its callers connect anew when what is said of them changes."""
        return with_reconnect_digest(wanted.entries, policy_digest(wanted.spec.name, self.intentions))

    def policy(self, destination: str, allow: Iterable[str]) -> Iterator[Action]:
        """Intentions to write and to take back; what a person wrote for a pair stands, whatever it says."""
        missing, stale = missing_and_stale(allow, destination, self.intentions, self.desired.mesh)
        yield from (Allow(source, destination) for source in missing)
        yield from map(Revoke, stale)


def matches(known: Registration | None, payloads: tuple[Payload, ...]) -> bool:
    """Whether Consul has exactly these registrations, ports included."""
    if known is None or known.digest != payloads[0]["Meta"][DIGEST]:
        return False
    ports = (known.port, known.sidecar_port)
    return ports == (payloads[0]["Port"], payloads[1]["Port"] if len(payloads) > 1 else None)
