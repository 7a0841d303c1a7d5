"""What is wanted: the services of a catalog, in full and validated.

Secrets are `SecretStr` from the moment they are read; `repr` never shows one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pydantic import SecretStr

# A service name becomes a Consul service, a DNS label and a URL segment.
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class Isolation(StrEnum):
    """Which callers share a child process of a stdio server."""

    SESSION = "session"  # a child of its own for each legacy session; modern requests share warm ones
    SHARED = "shared"  # one child for everybody
    REQUEST = "request"  # a child of its own for each call


class Protocol(StrEnum):
    """What Envoy takes a service to speak."""

    HTTP = "http"
    TCP = "tcp"


@dataclass(frozen=True)
class Stdio:
    """An MCP server that is launched and spoken to on stdin and stdout.

    With `image` it is that image's own program (`command` is then empty), in a
    container.
    """

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, SecretStr] = field(default_factory=dict)
    cwd: Path = Path()
    isolation: Isolation = Isolation.SESSION
    image: str | None = None


@dataclass(frozen=True)
class Remote:
    """An MCP server that runs elsewhere and speaks Streamable HTTP at `url`."""

    url: str
    headers: Mapping[str, SecretStr] = field(default_factory=dict)


@dataclass(frozen=True)
class Plain:
    """A service that is no MCP server: at `address` already, or launched with its port in `PORT`.

    Exactly one of `address` ("host:port") and `command` is set.
    """

    protocol: Protocol
    address: str | None = None
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, SecretStr] = field(default_factory=dict)
    cwd: Path = Path()


@dataclass(frozen=True)
class Upstream:
    """Another service that this one calls, at 127.0.0.1:`port` (chosen free where None)."""

    service: str
    port: int | None = None


@dataclass(frozen=True)
class Timeouts:
    """All in seconds."""

    start: float = 60.0
    request: float = 86_400.0
    drain: float = 10.0


@dataclass(frozen=True)
class Health:
    """How the service's own check is made: every `interval` seconds, at `path` where it is plain HTTP."""

    interval: float = 2.0
    path: str | None = None


@dataclass(frozen=True)
class ServiceSpec:
    """One service of the catalog."""

    name: str
    start: Stdio | Remote | Plain
    instances: int = 1
    tags: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    # The path at the ingress; None where the service is reached inside the mesh alone.
    route: str | None = None
    timeouts: Timeouts = Timeouts()
    health: Health = Health()
    balance: str = "least_request"
    # Whether it may reach the internet, where it runs in a container.
    egress: bool = False

    @property
    def is_mcp(self) -> bool:
        """Whether an MCP exchange can prove that it is alive."""
        return not isinstance(self.start, Plain)

    @property
    def protocol(self) -> Protocol:
        """What Envoy is told of it."""
        return self.start.protocol if isinstance(self.start, Plain) else Protocol.HTTP


@dataclass(frozen=True)
class Catalog:
    """Everything wanted, and what was odd but tolerable about the files that said so."""

    services: Mapping[str, ServiceSpec]
    warnings: tuple[str, ...] = ()
    sources: tuple[Path, ...] = ()
