"""What is reported: nothing here is said that was not observed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """A service in one word."""

    READY = "ready"  # every wanted instance answered an MCP exchange through its own sidecar
    DEGRADED = "degraded"  # some did
    STARTING = "starting"  # none has yet, and nothing failed
    FAILED = "failed"  # none does, and something must be mended; the detail says what
    DRAINING = "draining"  # no longer wanted, finishing its calls
    UNKNOWN = "unknown"  # Consul could not be read, or it was left by an earlier agent and could not be looked at


@dataclass(frozen=True)
class InstanceStatus:
    """One instance; ports are those really held, None where nothing listens yet."""

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

    `ingress_kind` is "kong" or "api-gateway", `ingress_error` what has to be mended there.
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


class Level(StrEnum):
    """How loud an event is."""

    DETAIL = "detail"  # a single deed
    PROGRESS = "progress"  # something takes time, and this is how far it is
    CHANGE = "change"  # something is different now
    TROUBLE = "trouble"  # something must be mended


@dataclass(frozen=True)
class Event:
    """One sentence about what happened; `number` grows by one, `time` is Unix seconds."""

    number: int
    time: float
    level: Level
    sentence: str
    service: str | None = None


@dataclass(frozen=True)
class Step:
    """One thing that a pass would do or waits for."""

    service: str
    sentence: str
    waiting: bool = False


@dataclass(frozen=True)
class Claim:
    """One thing that `verify` tried: `evidence` says what was done and seen, `next_step` how to mend it."""

    service: str | None
    claim: str
    ok: bool
    evidence: str
    next_step: str = ""


@dataclass(frozen=True)
class Tool:
    """A tool as its server describes it."""

    service: str
    name: str
    description: str = ""
    input_schema: dict[str, Any] = field(default_factory=dict)
