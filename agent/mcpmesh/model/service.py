"""The services of a catalog, complete and validated.

The defaults of a service's settings stand here and nowhere else: the catalog fills in what a file gives,
and the JSON Schema names these values in its descriptions.

Secrets are `SecretStr` from the moment they are read, so that no `repr` shows one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

# A service name becomes a Consul service, a DNS label and a segment of a URL.
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_LONGEST_NAME = 63

# How callers choose among instances; the words are Consul's.
Balance = Literal["least_request", "round_robin", "random"]


class Isolation(StrEnum):
    """Which callers share a server process of a stdio server."""

    SESSION = "session"  # one process for each legacy session; modern requests share warm ones
    SHARED = "shared"  # one process for all callers
    REQUEST = "request"  # one process for each call


class Protocol(StrEnum):
    """The protocol that Envoy is configured for."""

    HTTP = "http"
    TCP = "tcp"


@dataclass(frozen=True)
class Stdio:
    """An MCP server that the mesh launches and that speaks on stdin and stdout.

    With `image`, the server is that image's own program in a container, and `command` is empty.
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
    """A service that is not an MCP server.

    Either it runs already at `address` ("host:port"), or the mesh launches `command`, which listens on the port in
    its environment variable `PORT`. Exactly one of the two is set.
    """

    protocol: Protocol
    address: str | None = None
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, SecretStr] = field(default_factory=dict)
    cwd: Path = Path()


@dataclass(frozen=True)
class Upstream:
    """Another service that this one calls, at 127.0.0.1:`port`. The mesh chooses a free port where it is None."""

    service: str
    port: int | None = None


@dataclass(frozen=True)
class Timeouts:
    """Bounds of one instance, in seconds."""

    start: float = 60.0
    request: float = 86_400.0
    drain: float = 10.0


@dataclass(frozen=True)
class Health:
    """How Consul checks the service: every `interval` seconds, at `path` where it is plain HTTP."""

    interval: float = 2.0
    path: str | None = None

    @property
    def proof_path(self) -> str:
        """The path of the GET that proves a plain HTTP service through its sidecar."""
        return self.path or "/"


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
    balance: Balance = "least_request"
    # Whether the service may reach the internet when it runs in a container.
    egress: bool = False

    @property
    def is_mcp(self) -> bool:
        """Whether an MCP exchange can prove that an instance answers."""
        return not isinstance(self.start, Plain)

    @property
    def protocol(self) -> Protocol:
        """The protocol that Envoy is configured for; MCP travels over HTTP."""
        return self.start.protocol if isinstance(self.start, Plain) else Protocol.HTTP


@dataclass(frozen=True)
class Catalog:
    """All services of the mesh, with the warnings about the files (`sources`) that they were read from."""

    services: Mapping[str, ServiceSpec]
    warnings: tuple[str, ...] = ()
    sources: tuple[Path, ...] = ()


def default_route(name: str) -> str:
    """The path at the ingress of an MCP server that gives none."""
    return f"/mcp/{name}"


def service_name(text: str) -> str:
    """The service name nearest to `text`: `My_Server` becomes `my-server`. Empty without a usable character."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:_LONGEST_NAME].strip("-")
