"""Kong as a member of the mesh: a service like any other, whose sidecar listens for each routed service; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcpmesh.consul.config_entries import each_stamped, lua_extension
from mcpmesh.consul.registration import LOOPBACK, registration
from mcpmesh.model.service import Plain, Protocol, ServiceSpec, Upstream


@dataclass(frozen=True)
class KongIngress:
    """The Kong of `mesh`, known as `id` under the identity `service`, which listens at `host`:`port`."""

    mesh: str
    id: str
    service: str
    host: str
    port: int
    sidecar_port: int
    caller_lua: str
    inside: str = LOOPBACK

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
            host=self.inside,
        )

    def entries(self) -> list[dict[str, Any]]:
        """See Ingress; it calls as every sidecar does, so that sessions keep to their instances."""
        defaults = {
            "Kind": "service-defaults",
            "Name": self.service,
            "Protocol": "http",
            "EnvoyExtensions": [lua_extension("connect-proxy", self.caller_lua)],
        }
        return each_stamped([defaults], self.mesh)

    def route(self, spec: ServiceSpec) -> None:  # noqa: ARG002 - it stands in Kong's document
        """See Ingress."""
        return
