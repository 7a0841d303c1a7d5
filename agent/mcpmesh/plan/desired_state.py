"""The desired state of a mesh, worked out to the last config entry; pure data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mcpmesh.ingress.kong.document import Document
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import Workload
from mcpmesh.model.service import ServiceSpec

# Makes both registrations (instance, sidecar) of an instance as it runs.
Registrar = Callable[[Instance, Workload], tuple[dict[str, Any], ...]]


@dataclass(frozen=True)
class DesiredService:
    """One service. Its `entries` are written first, then `allow`, then its `instances` start, and `route` comes last.

    `allow` has the identities that may call it.
    """

    spec: ServiceSpec
    instances: tuple[Instance, ...]
    entries: tuple[dict[str, Any], ...]
    allow: tuple[str, ...]
    route: dict[str, Any] | None
    registrar: Registrar


@dataclass(frozen=True)
class DesiredKong:
    """Kong as the ingress, apart from its config entries.

    Its sidecar has a listener for each service with a route, at `ports`.
    `registrar` makes both registrations for a given set of such ports;
    `document` makes the document with routes to the given services. `digest`
    is that of the settings that a Kong of ours has to be started with.
    """

    sidecar_port: int
    ports: Mapping[str, int]
    registrar: Callable[[Mapping[str, int]], tuple[dict[str, Any], ...]]
    document: Callable[[Collection[str]], Document]
    digest: str = ""


@dataclass(frozen=True)
class DesiredIngress:
    """The ingress: its registration, its config entries, and its port.

    With Kong, `DesiredKong.registrar` makes the registrations.
    """

    id: str
    port: int
    registration: dict[str, Any]
    entries: tuple[dict[str, Any], ...]
    kong: DesiredKong | None = None


@dataclass(frozen=True)
class DesiredState:
    """The whole mesh. `ingress` is None when the mesh is to go down; `ingress_service` is the ingress's identity."""

    mesh: str
    ingress_service: str
    services: Mapping[str, DesiredService]
    ingress: DesiredIngress | None

    @property
    def ingress_id(self) -> str:
        """The id of the ingress in Consul and in marks."""
        return f"{self.mesh}-{self.ingress_service}"
