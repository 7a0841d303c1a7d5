"""What is wanted, worked out to the last config entry; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mcpmesh.model.instance import Instance
from mcpmesh.model.observed import Workload
from mcpmesh.model.service import ServiceSpec

# Both registrations (instance, sidecar) of an instance as it runs.
Registrar = Callable[[Instance, Workload], tuple[dict[str, Any], ...]]


@dataclass(frozen=True)
class Wanted:
    """One service: `entries` come first, then `allow`, its `instances`, and its `route` last."""

    spec: ServiceSpec
    instances: tuple[Instance, ...]
    entries: tuple[dict[str, Any], ...]
    allow: tuple[str, ...]
    route: dict[str, Any] | None
    registrar: Registrar


@dataclass(frozen=True)
class WantedIngress:
    """The gateway: its registration, its entries, and the port where it listens."""

    id: str
    port: int
    registration: dict[str, Any]
    entries: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Desired:
    """Everything; `ingress` is None when all is to go. `ingress_service` is its identity."""

    mesh: str
    ingress_service: str
    services: Mapping[str, Wanted]
    ingress: WantedIngress | None

    @property
    def ingress_id(self) -> str:
        """What the gateway is called in Consul and in marks."""
        return f"{self.mesh}-{self.ingress_service}"
