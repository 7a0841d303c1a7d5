"""Kong as a member of the mesh: a registered service whose sidecar listens for each routed service; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcpmesh.consul.config_entries import each_stamped, lua_extension
from mcpmesh.consul.registration import LOOPBACK, registration
from mcpmesh.model.service import Plain, Protocol, ServiceSpec, Upstream


@dataclass(frozen=True)
class KongIngress:
    """The Kong of `mesh`, registered as `id` under the identity `service`; it listens at `host`:`port`.

    `sidecar_host` is the address at which its sidecar listens for the mesh.
    """

    mesh: str
    id: str
    service: str
    host: str
    port: int
    sidecar_port: int
    caller_lua: str
    sidecar_host: str = LOOPBACK

    def registrations(self, upstreams: Mapping[str, int]) -> tuple[dict[str, Any], ...]:
        """See Ingress."""
        probed = LOOPBACK if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104
        wanted = tuple(Upstream(name, port) for name, port in sorted(upstreams.items()))
        return registration(
            ServiceSpec(self.service, Plain(Protocol.HTTP), upstreams=wanted),
            mesh=self.mesh,
            instance_id=self.id,
            port=self.port,
            address=probed,
            sidecar_port=self.sidecar_port,
            upstream_ports=upstreams,
            info=None,
            host=self.sidecar_host,
        )

    def entries(self) -> list[dict[str, Any]]:
        """See Ingress; it has the callers' script of every sidecar, so that sessions stay with their instances."""
        defaults = {
            "Kind": "service-defaults",
            "Name": self.service,
            "Protocol": "http",
            "EnvoyExtensions": [lua_extension("connect-proxy", self.caller_lua)],
        }
        return each_stamped([defaults], self.mesh)

    def route(self, spec: ServiceSpec) -> None:  # noqa: ARG002 - routes are in Kong's document
        """See Ingress."""
        return
