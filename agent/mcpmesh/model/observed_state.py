"""What was seen in one look at the world; a peer that could not be read is `Unknown`, not empty."""

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
    """What an MCP server said of itself."""

    name: str
    version: str
    protocol_versions: tuple[str, ...] = ()
    tools: tuple[ToolDigest, ...] = ()


@dataclass(frozen=True)
class Workload:
    """One running instance of a service, as its shim (or port) answers.

    `state` is the shim's own word ("ready", "starting", "crash-loop", …);
    `error` says what is wrong where it is not ready. `sidecar_port` is the
    port that was set aside for its sidecar when it was started. Its sidecar
    finds it at `address`, and other members of the mesh find that at `host`;
    there, at `check_port`, Consul looks at it where it has no other way.
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
    """One Envoy: `active` requests are under way in it; `rejected` xDS updates must stay 0.

    `known` says, for each service that it calls, how many instances Consul has told it to send calls to;
    `listening` are its ports, where somebody asked for them.
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
    known: Mapping[str, int] = field(default_factory=dict)
    listening: frozenset[int] = frozenset()


@dataclass(frozen=True)
class KongContent:
    """The document that Kong goes by, as the hash that Kong tells; `ports` are those of the services with our mark."""

    hash: str
    ports: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Kong:
    """Kong at the ingress; `pid` is None where somebody else runs it. `port` is its proxy's.

    `digest` is that of the settings that ours was started with.
    """

    pid: int | None
    port: int
    listening: bool
    content: KongContent | Unknown
    digest: str = ""

    @property
    def hash(self) -> str | None:
        """Of the document that it goes by; None where it does not tell."""
        return None if isinstance(self.content, Unknown) else self.content.hash


@dataclass(frozen=True)
class Registration:
    """An instance and its sidecar as Consul has them.

    `passing` is true when every check of both passes; `failing` names those
    that don't. `sidecar_port` is None where only the instance is registered.
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
        """Whether its sidecar is at an address that comes and goes with it."""
        return self.sidecar_host != "127.0.0.1"


@dataclass(frozen=True)
class Entry:
    """A config entry; `owner`, `digest` and `policy` come from its Meta, None where it carries no such mark."""

    kind: str
    name: str
    owner: str | None
    digest: str | None
    policy: str | None = None


@dataclass(frozen=True)
class Intention:
    """Who may call whom; `id` is empty where it was written as a config entry. `owner` is a mesh or None.

    `rules` is a digest of what it says of single requests, empty where it says nothing of them.
    """

    id: str
    source: str
    destination: str
    action: str
    owner: str | None
    rules: str = ""


@dataclass(frozen=True)
class Proof:
    """Whether an exchange through an instance's own sidecar succeeded lately; `error` says why not."""

    ok: bool
    error: str = ""


@dataclass(frozen=True)
class Stray:
    """A process of ours that nothing accounts for: its shim is gone, or it stands twice."""

    pid: int
    role: str
    instance: str


@dataclass(frozen=True)
class ObservedState:
    """One look at everything that is ours (and, of entries and intentions, at all).

    `held` are instances that wait for their next try, with the reason;
    `stuck` are pids that have not answered for too long; `drained` are
    instances that have no call left (or whose time to finish is over);
    `untold` are services of whose instances some caller's Envoy has not heard
    for too long; `ingress_closing` is true once the ingress was told to drain.
    `kong` is None where none runs and none was named.
    """

    registrations: Mapping[str, Registration] | Unknown
    entries: Mapping[tuple[str, str], Entry] | Unknown
    intentions: tuple[Intention, ...] | Unknown
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    sidecars: Mapping[str, Sidecar] = field(default_factory=dict)
    proofs: Mapping[str, Proof] = field(default_factory=dict)
    strays: tuple[Stray, ...] = ()
    held: Mapping[str, str] = field(default_factory=dict)
    stuck: frozenset[int] = frozenset()
    drained: frozenset[str] = frozenset()
    untold: frozenset[str] = frozenset()
    ingress_closing: bool = False
    kong: Kong | None = None
