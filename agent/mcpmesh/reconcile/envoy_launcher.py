"""What the Envoy of a sidecar or of the API gateway is started with."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path

from mcpmesh.envoy import envoy_program
from mcpmesh.envoy.bootstrap import ConsulAddress, render_bootstrap
from mcpmesh.kit.marked_process import Mark
from mcpmesh.plan.actions import StartSidecar
from mcpmesh.settings import EnvoySettings
from mcpmesh.workload.runtime import GATEWAY, SIDECAR, EnvoyLaunch


def role_of(action: StartSidecar) -> str:
    """The role in the mark of that Envoy."""
    return GATEWAY if action.gateway else SIDECAR


@dataclass(frozen=True)
class EnvoyLauncher:
    """Makes the launches of a mesh's Envoys, which get their configuration from Consul at `consul_address`."""

    mesh: str
    home: Path
    consul_address: ConsulAddress
    binary: Path
    settings: EnvoySettings

    def launch(self, action: StartSidecar) -> EnvoyLaunch:
        """The mark of the Envoy, its bootstrap configuration and its command line."""

        def bootstrap(admin: int | Path) -> Awaitable[str]:
            return render_bootstrap(self.consul_address, action.sidecar_id, admin, gateway=action.gateway)

        def arguments(path: Path) -> list[str]:
            settings = self.settings
            return envoy_program.arguments(
                self.binary, path, concurrency=settings.concurrency, drain_seconds=settings.drain_seconds
            )

        ports = {"public": action.port}
        mark = Mark(self.mesh, str(self.home), role_of(action), action.instance_id, action.service, ports=ports)
        return EnvoyLaunch(mark, bootstrap, arguments)
