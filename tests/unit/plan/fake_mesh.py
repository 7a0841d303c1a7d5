"""A world that does what a plan says, at once and in memory, so that plans can be followed to their end."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mcpmesh.ingress.kong.document import Document, document_from_content
from mcpmesh.model.instance import Instance, instances
from mcpmesh.model.observed_state import (
    Entry,
    Intention,
    Kong,
    KongContent,
    ObservedState,
    Proof,
    Registration,
    ServerInfo,
    Sidecar,
    Workload,
)
from mcpmesh.model.service import Protocol, ServiceSpec, Stdio
from mcpmesh.plan.actions import (
    Action,
    Allow,
    CloseKong,
    DeleteEntry,
    Deregister,
    Drain,
    EndStray,
    PostDocument,
    Register,
    Revoke,
    StartKong,
    StartSidecar,
    StartWorkload,
    StopKong,
    StopSidecar,
    StopWorkload,
    WriteEntry,
)
from mcpmesh.plan.desired_state import DesiredIngress, DesiredKong, DesiredService, DesiredState
from mcpmesh.plan.planner import Plan, plan

MESH = "test"
KEY = b"key"
INGRESS = "ingress"


def spec(name: str, **changes: Any) -> ServiceSpec:
    """A stdio service with a route."""
    return replace(ServiceSpec(name, Stdio("server"), route=f"/mcp/{name}"), **changes)


def payload(kind: str, name: str, digest: str = "1", **more: Any) -> dict[str, Any]:
    """A config entry of ours."""
    return {"Kind": kind, "Name": name, "Meta": {"mcpmesh-owner": MESH, "mcpmesh-digest": digest}, **more}


def wanted(service: ServiceSpec) -> DesiredService:
    """A service worked out, with entries as small as they can be."""

    def registrar(instance: Instance, workload: Workload) -> tuple[dict[str, Any], ...]:
        meta = {"mcpmesh-digest": f"{instance.digest}{service.tags}"}
        first = {"ID": instance.id, "Name": service.name, "Port": workload.port, "Meta": meta}
        return first, {"ID": instance.sidecar_id, "Port": workload.sidecar_port, "Meta": meta}

    kinds = ["service-defaults", "service-resolver"]
    if service.protocol is Protocol.HTTP:
        kinds.append("service-router")
    return DesiredService(
        spec=service,
        instances=instances(service, MESH, KEY),
        entries=tuple(payload(kind, service.name, service.protocol) for kind in kinds),
        allow=tuple(sorted({*service.allow, *([INGRESS] if service.route else [])})),
        route=payload("http-route", service.name, str(service.route)) if service.route else None,
        registrar=registrar,
    )


def desired(*services: ServiceSpec) -> DesiredState:
    """These services behind an ingress."""
    gateway = {"ID": f"{MESH}-{INGRESS}", "Name": INGRESS, "Port": 8000, "Meta": {"mcpmesh-digest": "g"}}
    entries = (payload("service-defaults", INGRESS), payload("api-gateway", INGRESS))
    ingress = DesiredIngress(f"{MESH}-{INGRESS}", 8000, gateway, entries)
    return DesiredState(MESH, INGRESS, {service.name: wanted(service) for service in services}, ingress)


def behind_kong(*services: ServiceSpec) -> DesiredState:
    """These services behind Kong, whose sidecar has a port for each in the order of their names."""
    ports = {name: 7000 + place for place, name in enumerate(sorted(s.name for s in services if s.route))}
    ingress = DesiredIngress(
        f"{MESH}-{INGRESS}",
        8000,
        kong_registrations({})[0],
        (payload("service-defaults", INGRESS, "kong"),),
        DesiredKong(
            6000, ports, kong_registrations, lambda leads: kong_document({name: ports[name] for name in leads})
        ),
    )
    wanted_services = {service.name: replace(wanted(service), route=None) for service in services}
    return DesiredState(MESH, INGRESS, wanted_services, ingress)


def kong_registrations(upstreams: Mapping[str, int]) -> tuple[dict[str, Any], ...]:
    """Kong and its sidecar."""
    meta = {"mcpmesh-digest": str(sorted(upstreams.items()))}
    first = {"ID": f"{MESH}-{INGRESS}", "Name": INGRESS, "Port": 8000, "Meta": meta}
    return first, {"ID": f"{MESH}-{INGRESS}-sidecar", "Port": 6000, "Meta": meta}


def kong_document(ports: Mapping[str, int]) -> Document:
    """A document that leads there."""
    return document_from_content({"services": [{"name": name, "port": port} for name, port in sorted(ports.items())]})


NOTHING = DesiredState(MESH, INGRESS, {}, None)


class World:
    """Everything that a plan can change. What is started is ready at once unless `slow` names it."""

    def __init__(self) -> None:
        self.registrations: dict[str, Registration] = {}
        self.entries: dict[tuple[str, str], Entry] = {}
        self.intentions: list[Intention] = []
        self.workloads: dict[str, Workload] = {}
        self.sidecars: dict[str, Sidecar] = {}
        self.slow: set[str] = set()
        self.busy: set[str] = set()
        self.done: list[Action] = []
        self.closing = False
        self.kong: Kong | None = None
        self.upstreams: frozenset[int] = frozenset()
        self._port = 20000

    def observed(self) -> ObservedState:
        """A look: whoever runs behind a ready sidecar has proven it, and the ingress knows everybody."""
        known = dict.fromkeys((registration.service for registration in self.registrations.values()), 99)
        return ObservedState(
            registrations=dict(self.registrations),
            entries=dict(self.entries),
            intentions=tuple(self.intentions),
            workloads=dict(self.workloads),
            sidecars={
                id_: replace(envoy, known=known, listening=self.upstreams) if envoy.service == INGRESS else envoy
                for id_, envoy in self.sidecars.items()
            },
            proofs={id_: Proof(True) for id_ in self.sidecars if id_ in self.workloads and self.workloads[id_].ready},
            drained=frozenset((self.registrations.keys() | self.sidecars.keys()) - self.busy),
            ingress_closing=self.closing,
            kong=self.kong,
        )

    def apply(self, found: Plan) -> None:
        """Does everything that the plan says."""
        for actions in found.actions.values():
            for action in actions:
                self.do(action)

    def settle(self, target: DesiredState, passes: int = 30) -> Plan:
        """Passes until the plan has no actions; the last plan."""
        for _ in range(passes):
            found = plan(target, self.observed())
            if not found.actions:
                return found
            self.apply(found)
        raise AssertionError(f"not settled after {passes} passes: {found.steps()}")

    def do(self, action: Action) -> None:
        """Does one action."""
        self.done.append(action)
        match action:
            case WriteEntry(item):
                meta = item["Meta"]
                key = (item["Kind"], item["Name"])
                self.entries[key] = Entry(
                    *key, meta["mcpmesh-owner"], meta["mcpmesh-digest"], meta.get("mcpmesh-policy")
                )
            case DeleteEntry(kind, name):
                del self.entries[kind, name]
            case Allow(source, destination):
                self.intentions.append(Intention("id", source, destination, "allow", MESH))
            case Revoke(intention):
                self.intentions.remove(intention)
            case StartWorkload(instance, port, sidecar_port):
                self._start(instance, port, sidecar_port)
            case Register(id_, payloads):
                self._register(id_, payloads)
            case StartSidecar(id_, _, service, port):
                self.sidecars[id_] = Sidecar(id_, service, self._next(), port, f"127.0.0.1:{self._next()}", ready=True)
                if id_ in self.registrations:
                    self.registrations[id_] = replace(self.registrations[id_], passing=True)
            case StartKong(_, _, port):
                assert self.kong is None
                self.kong = Kong(self._next(), port, listening=True, content=KongContent("none"))
            case StopKong():
                self.kong = None
            case PostDocument(found):
                self._hand_over(found)
            case CloseKong():
                self._hand_over(kong_document({}))
            case Drain(id_):
                self.closing = (
                    self.closing or id_ not in self.registrations or self.registrations[id_].service == INGRESS
                )
                if id_ in self.registrations:
                    self.registrations[id_] = replace(self.registrations[id_], draining=True)
            case Deregister(id_, _):
                self.registrations.pop(id_, None)
            case StopSidecar(id_):
                self.sidecars.pop(id_)
            case StopWorkload(id_):
                self.workloads.pop(id_)
            case EndStray():
                pass

    def _start(self, instance: Instance, port: int | None, sidecar_port: int | None) -> None:
        assert instance.id not in self.workloads
        slow = instance.service in self.slow
        self.workloads[instance.id] = Workload(
            instance=instance.id,
            service=instance.service,
            pid=self._next(),
            port=port or self._next(),
            sidecar_port=sidecar_port or self._next(),
            state="starting" if slow else "ready",
            info=None if slow else ServerInfo("server", "1"),
        )

    def _hand_over(self, found: Document) -> None:
        assert self.kong is not None
        ports = {item["name"]: item["port"] for item in json.loads(found.text)["services"]}
        # What would answer 503 is found here.
        assert self.upstreams >= set(ports.values()), "Kong leads to a listener that is not there"
        self.kong = replace(self.kong, content=KongContent(found.hash, ports))

    def _register(self, id_: str, payloads: tuple[dict[str, Any], ...]) -> None:
        if id_ == f"{MESH}-{INGRESS}" and len(payloads) > 1:
            self._listen(payloads[0]["Meta"]["mcpmesh-digest"])
        before = self.registrations.get(id_)
        self.registrations[id_] = Registration(
            id=id_,
            service=payloads[0]["Name"],
            port=payloads[0]["Port"],
            sidecar_port=payloads[1]["Port"] if len(payloads) > 1 else None,
            digest=payloads[0]["Meta"]["mcpmesh-digest"],
            draining=False,
            passing=bool(before and before.passing),
        )

    def _listen(self, upstreams: str) -> None:
        """The sidecar of Kong learns of its listeners; none goes that Kong leads to."""
        self.upstreams = frozenset(port for _, port in ast.literal_eval(upstreams))
        content = self.kong.content if self.kong else None
        led = set(content.ports.values()) if isinstance(content, KongContent) else set()
        assert self.upstreams >= led, "a listener went that Kong leads to"

    def _next(self) -> int:
        self._port += 1
        return self._port
