"""The mesh that `verify` is about: its settings, what is desired, and its peers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mcpmesh.consul.client import Consul
from mcpmesh.envoy.envoy_admin import EnvoyAdmin
from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.model.reserved_names import AGENT
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.settings import Settings
from mcpmesh.workload.runtime import Runtime


@dataclass(frozen=True)
class KongAtIngress:
    """The Kong at the ingress.

    `url` is that of its Admin API where somebody else runs it, None where the agent runs it.
    `user_paths` are the paths of the routes in the user's own documents.
    """

    admin: KongAdmin
    url: str | None
    user_paths: tuple[str, ...] = ()

    @property
    def run_by_agent(self) -> bool:
        """Whether the agent runs it."""
        return self.url is None


@dataclass(frozen=True)
class Target:
    """One mesh. `home` is its folder, `ingress_url` the ingress as a client writes it."""

    settings: Settings
    mesh: str
    home: Path
    consul: Consul
    envoy_admin: EnvoyAdmin
    desired: DesiredState
    ingress_url: str
    runtime: Runtime
    kong: KongAtIngress | None = None

    # The next steps that claims name, as a user would type them.

    def mcpmesh_command(self, arguments: str) -> str:
        """A command to this mesh's agent, such as "logs files"."""
        return f"mcpmesh {arguments}" if self.mesh == "default" else f"mcpmesh --name {self.mesh} {arguments}"

    def consul_command(self, command: str, arguments: str) -> str:
        """A command to its Consul, such as ("intention delete", "ingress files")."""
        return f"consul {command} -http-addr={self.settings.consul.url or self.consul.address} {arguments}".rstrip()

    @property
    def show_routes(self) -> str:
        """The command that shows every route of the ingress."""
        if self.kong:
            return self.mcpmesh_command("ingress render")
        return self.consul_command("config list", "-kind http-route")

    def log_file(self, name: str) -> Path:
        """The log file of an instance, of "<instance>.sidecar", or of "agent"."""
        return self.home / "logs" / f"{name}.log"

    @property
    def agent_repairs(self) -> str:
        """The next step for what the agent puts right by itself."""
        resume, log = self.mcpmesh_command("resume"), self.log_file(AGENT)
        return f"the agent repairs this at its next pass unless it is paused ({resume}); if it lasts, see {log}"
