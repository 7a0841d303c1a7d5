"""What `verify` is told about a mesh: what is wanted, and where to look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mcpmesh.consul.client import Consul
from mcpmesh.consul.embedded_consul import ROLE as CONSUL
from mcpmesh.consul.registration import LOOPBACK
from mcpmesh.envoy.envoy_admin import EnvoyAdmin
from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.ingress.kong.kong_process import ROLE as KONG
from mcpmesh.model.reserved_names import AGENT, AGENT_IDENTITY, STRANGER_IDENTITY
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.settings import Settings
from mcpmesh.workload.runtime import GATEWAY, SIDECAR, Runtime

__all__ = [
    "AGENT",
    "AGENT_IDENTITY",
    "CONSUL",
    "GATEWAY",
    "KONG",
    "LOOPBACK",
    "SIDECAR",
    "STRANGER_IDENTITY",
    "KongWorld",
    "World",
]


@dataclass(frozen=True)
class KongWorld:
    """Kong at the ingress: `url` is that of its Admin API where somebody else runs it, None where it is ours.

    `paths` are what the routes of a person's own documents take.
    """

    admin: KongAdmin
    url: str | None
    paths: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether the agent runs it."""
        return self.url is None


@dataclass(frozen=True)
class World:
    """One mesh; `home` is its folder, `ingress_url` the ingress as a client writes it."""

    settings: Settings
    mesh: str
    home: Path
    consul: Consul
    admin: EnvoyAdmin
    desired: DesiredState
    ingress_url: str
    runtime: Runtime
    kong: KongWorld | None = None

    # Next steps, as somebody would type them.

    def mcpmesh(self, words: str) -> str:
        """A command to this mesh's agent."""
        return f"mcpmesh {words}" if self.mesh == "default" else f"mcpmesh --name {self.mesh} {words}"

    def consul_command(self, command: str, words: str) -> str:
        """A command to its Consul, such as ("intention delete", "ingress files")."""
        return f"consul {command} -http-addr={self.settings.consul.url or self.consul.address} {words}".rstrip()

    @property
    def routes_command(self) -> str:
        """What shows every route of the ingress."""
        return self.mcpmesh("ingress render") if self.kong else self.consul_command("config list", "-kind http-route")

    def log(self, name: str) -> Path:
        """The log file of an instance, of "<instance>.sidecar", of "agent"."""
        return self.home / "logs" / f"{name}.log"

    @property
    def mended_by_agent(self) -> str:
        """What to do about something that the agent puts right by itself."""
        resume, log = self.mcpmesh("resume"), self.log(AGENT)
        return f"the agent mends this at its next pass unless it is paused ({resume}); if it lasts, see {log}"
