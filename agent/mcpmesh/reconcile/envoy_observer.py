"""The observed state of our Envoys: sidecars, the API gateway, and the sidecar of Kong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mcpmesh.envoy.envoy_admin import EnvoyAdmin
from mcpmesh.errors import PeerError
from mcpmesh.kit.marked_process import Process
from mcpmesh.kit.ports import accepts_connections
from mcpmesh.model.observed_state import Sidecar
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.workload.runtime import GATEWAY


class EnvoyObserver:
    """Asks the admin address of each Envoy; one that gives no answer is not ready."""

    def __init__(self, admin: EnvoyAdmin) -> None:
        self._admin = admin

    async def observe(self, process: Process) -> Sidecar:
        """The state of one Envoy."""
        mark = process.mark
        silent = Sidecar(
            mark.instance, mark.service, process.pid, mark.ports["public"], process.private_address("admin"), False
        )
        try:
            report = await self._admin.report(silent.admin)
        except PeerError:
            return silent
        # A sidecar listens from the start, a gateway only from its first route on.
        accepts = mark.role == GATEWAY or (report.ready and await accepts_connections(process.host, silent.port))
        return replace(
            silent,
            ready=report.ready and accepts,
            active=report.active,
            rejected=report.rejected,
            clusters=report.clusters,
            endpoints=report.endpoints,
        )

    async def of_ingress(
        self, desired: DesiredState, sidecars: Mapping[str, Sidecar], routed: bool
    ) -> dict[str, Sidecar]:
        """The ingress's Envoy, if any, with what the others don't need.

        The sidecar of Kong has its listeners' ports. With a route (`routed`),
        an API gateway is not ready before it accepts connections.
        """
        envoy, ingress = sidecars.get(desired.ingress_id), desired.ingress
        if envoy is None or ingress is None or not envoy.ready:
            return {}
        if ingress.kong:
            try:
                return {envoy.instance: replace(envoy, listener_ports=await self._admin.listening(envoy.admin))}
            except PeerError:
                return {}
        if not routed:
            return {}
        host = ingress.registration["Address"]
        host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
        return {envoy.instance: replace(envoy, ready=await accepts_connections(host, envoy.port))}
