"""The status of a mesh, of its services and of their instances: only what was observed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """The state of a service or of an instance."""

    READY = "ready"  # every wanted instance answered an MCP exchange through its own sidecar
    DEGRADED = "degraded"  # some instances did
    STARTING = "starting"  # no instance has answered yet, and nothing failed
    FAILED = "failed"  # no instance answers; the detail says what to fix
    DRAINING = "draining"  # no longer wanted, finishing its calls
    # Consul could not be read; or an earlier agent left it running, and it could not be observed yet.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class InstanceStatus:
    """One instance. A port is None while nothing listens at it."""

    id: str
    state: State
    detail: str = ""
    pid: int | None = None
    port: int | None = None
    sidecar_pid: int | None = None
    sidecar_port: int | None = None


@dataclass(frozen=True)
class ServiceStatus:
    """One service; `address` is its URL at the ingress, None without a route."""

    name: str
    state: State
    wanted: int
    ready: int
    detail: str = ""
    address: str | None = None
    server: str | None = None
    protocol_versions: tuple[str, ...] = ()
    tools: int | None = None
    instances: tuple[InstanceStatus, ...] = ()


@dataclass(frozen=True)
class MeshStatus:
    """The whole mesh; `in_sync` is true when the last pass found nothing to do.

    `ingress_kind` is "kong" or "api-gateway"; `ingress_error` says what to fix
    at the ingress, "" where nothing is wrong.
    """

    name: str
    in_sync: bool
    paused: bool
    ingress: str | None
    ingress_ready: bool
    consul: str
    consul_ready: bool
    services: tuple[ServiceStatus, ...] = ()
    warnings: tuple[str, ...] = ()
    catalog_error: str | None = None
    sources: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    ingress_kind: str = "api-gateway"
    ingress_error: str = ""
