"""The observed state of a mesh. A peer that could not be read is `Unknown`, not empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Unknown:
    """A peer that could not be read, and why."""

    reason: str


@dataclass(frozen=True)
class ToolDigest:
    """A tool's name and the SHA-256 of its definition."""

    name: str
    digest: str


@dataclass(frozen=True)
class ServerInfo:
    """The server info, protocol versions and tools that an MCP server reports."""

    name: str
    version: str
    protocol_versions: tuple[str, ...] = ()
    tools: tuple[ToolDigest, ...] = ()


@dataclass(frozen=True)
class Workload:
    """One running instance of a service, as its shim (or port) answers.

    `state` is the state that the shim reports ("ready", "starting",
    "crash-loop", …); `error` says why an instance is not ready. `sidecar_port`
    is the port that was reserved for its sidecar at its start. Its sidecar
    reaches it at `address`; other members of the mesh reach its sidecar at
    `host`. `check_port`, also at `host`, is where Consul checks an instance
    that it reaches only through its sidecar.
    """

    instance: str
    service: str
    pid: int | None
    port: int
    sidecar_port: int
    state: str
    error: str = ""
    info: ServerInfo | None = None
    upstream_ports: Mapping[str, int] = field(default_factory=dict)
    address: str = "127.0.0.1"
    host: str = "127.0.0.1"
    check_port: int | None = None

    @property
    def ready(self) -> bool:
        """Whether an MCP exchange (or, for a plain service, a connection) succeeded lately."""
        return self.state == "ready"


@dataclass(frozen=True)
class Sidecar:
    """One Envoy. `active` counts the requests under way; `rejected` counts rejected xDS updates and must stay 0.

    `endpoints` has, for each service that it calls, the number of instances
    that Consul has announced to it. `listener_ports` is filled only for the
    sidecar of Kong.
    """

    instance: str
    service: str
    pid: int
    port: int
    admin: str
    ready: bool
    active: int = 0
    rejected: int = 0
    clusters: tuple[str, ...] = ()
    endpoints: Mapping[str, int] = field(default_factory=dict)
    listener_ports: frozenset[int] = frozenset()


@dataclass(frozen=True)
class KongContent:
    """The document that Kong has loaded: its hash, as Kong reports it, and the ports of the services with our mark."""

    hash: str
    ports: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Kong:
    """Kong at the ingress; `pid` is None where we don't run it. `port` is its proxy port.

    `digest` is that of the settings that a Kong of ours was started with.
    """

    pid: int | None
    port: int
    listening: bool
    content: KongContent | Unknown
    digest: str = ""

    @property
    def hash(self) -> str | None:
        """The hash of its document; None where it could not be read."""
        return None if isinstance(self.content, Unknown) else self.content.hash


@dataclass(frozen=True)
class Registration:
    """An instance and its sidecar as Consul has them.

    `passing` is true when every check of both passes; `failing` names the
    checks that fail. `sidecar_port` is None where only the instance is registered.
    """

    id: str
    service: str
    port: int
    sidecar_port: int | None
    digest: str
    draining: bool
    passing: bool
    failing: tuple[str, ...] = ()
    sidecar_host: str = "127.0.0.1"

    @property
    def has_own_address(self) -> bool:
        """Whether its sidecar has an IP address of its own, which disappears when the instance ends."""
        return self.sidecar_host != "127.0.0.1"


@dataclass(frozen=True)
class Entry:
    """A config entry; `owner`, `digest` and `policy` come from its Meta, None where it has no such key."""

    kind: str
    name: str
    owner: str | None
    digest: str | None
    policy: str | None = None


@dataclass(frozen=True)
class Intention:
    """An intention; `id` is empty where it was written as a config entry. `owner` is the mesh that wrote it, or None.

    `rules` is a digest of its rules for single requests, empty without such rules.
    """

    id: str
    source: str
    destination: str
    action: str
    owner: str | None
    rules: str = ""


@dataclass(frozen=True)
class Proof:
    """Whether the latest exchange through an instance's own sidecar succeeded; `error` says why not."""

    ok: bool
    error: str = ""


@dataclass(frozen=True)
class Stray:
    """A process with our mark that belongs to no instance: its shim has ended, or it runs twice."""

    pid: int
    role: str
    instance: str


@dataclass(frozen=True)
class ObservedState:
    """Everything of this mesh at one moment, and all config entries and intentions of others.

    `held_back` has the instances that wait for the next try, with the reason.
    `stuck_pids` have not answered for too long. `drained` are the instances
    without a call under way, or whose time to finish is over. `not_propagated`
    are services whose registrations have not reached the Envoy of some caller
    for too long. `ingress_draining` is true once the ingress was told to drain.
    `kong` is None where none runs and no external one is configured.
    """

    registrations: Mapping[str, Registration] | Unknown
    entries: Mapping[tuple[str, str], Entry] | Unknown
    intentions: tuple[Intention, ...] | Unknown
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    sidecars: Mapping[str, Sidecar] = field(default_factory=dict)
    proofs: Mapping[str, Proof] = field(default_factory=dict)
    strays: tuple[Stray, ...] = ()
    held_back: Mapping[str, str] = field(default_factory=dict)
    stuck_pids: frozenset[int] = frozenset()
    drained: frozenset[str] = frozenset()
    not_propagated: frozenset[str] = frozenset()
    ingress_draining: bool = False
    kong: Kong | None = None
