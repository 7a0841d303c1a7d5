"""What is wanted, worked out to the last config entry; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mcpmesh.ingress.kong.document import Document
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import Workload
from mcpmesh.model.service import ServiceSpec

# Both registrations (instance, sidecar) of an instance as it runs.
Registrar = Callable[[Instance, Workload], tuple[dict[str, Any], ...]]


@dataclass(frozen=True)
class DesiredService:
    """One service: `entries` come first, then `allow`, its `instances`, and its `route` last."""

    spec: ServiceSpec
    instances: tuple[Instance, ...]
    entries: tuple[dict[str, Any], ...]
    allow: tuple[str, ...]
    route: dict[str, Any] | None
    registrar: Registrar


@dataclass(frozen=True)
class DesiredKong:
    """What is wanted beside its entries where Kong stands at the ingress.

    Its sidecar listens at `ports` for each service with a route; `registrar`
    gives both registrations for such ports, `document` what Kong is handed for
    those services that it may lead to now. `digest` is that of the settings
    that a Kong of ours has to be started with.
    """

    sidecar_port: int
    ports: Mapping[str, int]
    registrar: Callable[[Mapping[str, int]], tuple[dict[str, Any], ...]]
    document: Callable[[Collection[str]], Document]
    digest: str = ""


@dataclass(frozen=True)
class DesiredIngress:
    """The ingress: its registration (of Kong's sidecar: see there), its entries, and the port where it listens."""

    id: str
    port: int
    registration: dict[str, Any]
    entries: tuple[dict[str, Any], ...]
    kong: DesiredKong | None = None


@dataclass(frozen=True)
class DesiredState:
    """Everything; `ingress` is None when all is to go. `ingress_service` is its identity."""

    mesh: str
    ingress_service: str
    services: Mapping[str, DesiredService]
    ingress: DesiredIngress | None

    @property
    def ingress_id(self) -> str:
        """What the gateway is called in Consul and in marks."""
        return f"{self.mesh}-{self.ingress_service}"
