"""Desired and observed state side by side, with every peer known, and the questions that the plan asks of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcpmesh.consul.config_entries import with_reconnect_digest
from mcpmesh.consul.intention_changes import missing_and_stale, policy_digest
from mcpmesh.consul.ownership import DIGEST, POLICY
from mcpmesh.model.agent_reports import Step
from mcpmesh.model.observed_state import Entry, Intention, ObservedState, Registration, Unknown
from mcpmesh.plan.actions import Action, Allow, Revoke, WriteEntry
from mcpmesh.plan.desired_state import DesiredService, DesiredState

Payload = dict[str, Any]


@dataclass(frozen=True)
class PlannerInput:
    """Both states; `registrations` also holds the ingress."""

    desired: DesiredState
    observed: ObservedState
    registrations: Mapping[str, Registration]
    entries: Mapping[tuple[str, str], Entry]
    intentions: tuple[Intention, ...]

    @classmethod
    def of(cls, desired: DesiredState, observed: ObservedState) -> PlannerInput | None:
        """None where Consul could not be read."""
        registrations, entries, intentions = observed.registrations, observed.entries, observed.intentions
        if isinstance(registrations, Unknown) or isinstance(entries, Unknown) or isinstance(intentions, Unknown):
            return None
        return cls(desired, observed, registrations, entries, intentions)

    def is_exposed(self, id_: str) -> bool:
        """Whether callers send calls to that instance: registered, passing, not draining, its sidecar ready."""
        registration, sidecar = self.registrations.get(id_), self.observed.sidecars.get(id_)
        passing = registration is not None and registration.passing and not registration.draining
        return passing and sidecar is not None and sidecar.ready

    def is_serving(self, id_: str) -> bool:
        """Whether an exposed instance has a good proof; only wanted instances are ever proven."""
        proof = self.observed.proofs.get(id_)
        return self.is_exposed(id_) and proof is not None and proof.ok

    def has_propagated(self, service: str) -> bool:
        """Whether the Envoy of every caller knows all exposed instances of a service.

        The ingress is a caller of a service with a route.
        """
        exposed = sum(map(self.is_exposed, self.instances_of(service)))
        # An Envoy that has not heard of the service does not call it; the ingress does once there is a route.
        unheard = {self.desired.ingress_id: 0} if self.has_route(service) else {}
        return all(
            envoy.endpoints.get(service, unheard.get(id_, exposed)) >= exposed
            for id_, envoy in self.observed.sidecars.items()
        )

    def has_route(self, service: str) -> bool:
        """Whether there is a route from the ingress to a service."""
        return ("http-route", service) in self.entries or service in self.kong_ports

    def ingress_serves(self, service: str) -> bool:
        """Whether the ingress's own Envoy has heard of the route to a service, which is later than Consul has."""
        ingress = self.observed.sidecars.get(self.desired.ingress_id)
        heard = ingress is not None and service in ingress.endpoints
        return self.has_route(service) and (heard or service in self.kong_ports)

    @property
    def kong_ports(self) -> Mapping[str, int]:
        """The port to which Kong sends the calls of each service; empty where that is unknown."""
        kong = self.observed.kong
        return {} if kong is None or isinstance(kong.content, Unknown) else kong.content.ports

    @property
    def kong_unknown_reason(self) -> str:
        """Why the document of a running Kong could not be read; "" where it could, and without a Kong."""
        kong = self.observed.kong
        return kong.content.reason if kong is not None and isinstance(kong.content, Unknown) else ""

    @property
    def has_own_route_entry(self) -> bool:
        """Whether any http-route entry of ours is left."""
        return any(e.kind == "http-route" and e.owner == self.desired.mesh for e in self.entries.values())

    def own_entry(self, kind: str, name: str) -> Entry | None:
        """The config entry of that kind and name, if this mesh wrote it."""
        entry = self.entries.get((kind, name))
        return entry if entry is not None and entry.owner == self.desired.mesh else None

    def instances_of(self, service: str) -> set[str]:
        """The ids of every instance of a service that runs, is registered or has a sidecar."""
        running = {id_ for id_, workload in self.observed.workloads.items() if workload.service == service}
        registered = {id_ for id_, registration in self.registrations.items() if registration.service == service}
        sidecars = {id_ for id_, sidecar in self.observed.sidecars.items() if sidecar.service == service}
        return running | registered | sidecars

    def services_found(self) -> set[str]:
        """Every service of ours of which anything exists, without the ingress."""
        found = {workload.service for workload in self.observed.workloads.values()}
        found |= {sidecar.service for sidecar in self.observed.sidecars.values()}
        found |= {registration.service for registration in self.registrations.values()}
        found |= {entry.name for entry in self.entries.values() if entry.owner == self.desired.mesh}
        found |= {i.destination for i in self.intentions if i.owner == self.desired.mesh}
        return found - {self.desired.ingress_service}

    def conflicting_entries(self, payloads: Iterable[Payload]) -> Iterator[Step]:
        """Config entries that we would have to write and that this mesh did not write."""
        for payload in payloads:
            entry = self.entries.get((payload["Kind"], payload["Name"]))
            if entry and entry.owner != self.desired.mesh:
                yield Step(
                    payload["Name"],
                    f"cannot write {entry.kind}/{entry.name}: it exists and was not written by this mesh; "
                    f"rename the service, or: consul config delete -kind {entry.kind} -name {entry.name}",
                    waiting=True,
                )

    def entries_to_write(self, payloads: Iterable[Payload]) -> Iterator[WriteEntry]:
        """Config entries that are missing or differ."""
        for payload in payloads:
            entry = self.entries.get((payload["Kind"], payload["Name"]))
            meta = payload["Meta"]
            if entry is None or (entry.digest, entry.policy) != (meta[DIGEST], meta.get(POLICY)):
                yield WriteEntry(payload)

    def entries_of(self, wanted: DesiredService) -> list[Payload]:
        """The config entries of a service, with a digest that makes callers reconnect when an intention changes."""
        return with_reconnect_digest(wanted.entries, policy_digest(wanted.spec.name, self.intentions))

    def intention_changes(self, destination: str, allow: Iterable[str]) -> Iterator[Action]:
        """Intentions to write and to delete; an intention that a person wrote for a pair stays as it is."""
        missing, stale = missing_and_stale(allow, destination, self.intentions, self.desired.mesh)
        yield from (Allow(source, destination) for source in missing)
        yield from map(Revoke, stale)


def matches(registration: Registration | None, payloads: tuple[Payload, ...]) -> bool:
    """Whether Consul has exactly these registrations, ports included."""
    if registration is None or registration.digest != payloads[0]["Meta"][DIGEST]:
        return False
    ports = (registration.port, registration.sidecar_port)
    return ports == (payloads[0]["Port"], payloads[1]["Port"] if len(payloads) > 1 else None)
