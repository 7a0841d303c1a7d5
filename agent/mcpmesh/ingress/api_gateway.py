"""Consul's API gateway on Envoy as the ingress; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcpmesh.consul.config_entries import IDLE_TIMEOUT, RETRIES, RETRY_ON, each_stamped, lua_extension, request_timeout
from mcpmesh.consul.ownership import stamped
from mcpmesh.consul.registration import LISTENER_INTERVAL, LOOPBACK, tcp_check
from mcpmesh.model.service import ServiceSpec

LISTENER = "main"

# Envoy has a third safe condition. Consul accepts it in an http-route, not in a service-router.
ROUTE_RETRY_ON = (*RETRY_ON, "reset-before-request")


@dataclass(frozen=True)
class ApiGateway:
    """The gateway of `mesh`, registered as `id` under the identity `service`, at `host`:`port`."""

    mesh: str
    id: str
    service: str
    host: str
    port: int
    caller_lua: str

    def registrations(self, upstreams: Mapping[str, int]) -> tuple[dict[str, Any], ...]:  # noqa: ARG002 - a gateway has none
        """See Ingress."""
        return (gateway_registration(self.mesh, self.id, self.service, self.host, self.port),)

    def entries(self) -> list[dict[str, Any]]:
        """See Ingress."""
        return ingress_entries(self.mesh, self.service, self.port, self.caller_lua)

    def route(self, spec: ServiceSpec) -> dict[str, Any]:
        """See Ingress."""
        return route_entry(spec, self.mesh, self.service)


def gateway_registration(mesh: str, gateway_id: str, service: str, host: str, port: int) -> dict[str, Any]:
    """The registration of a gateway that listens at `host`:`port`; critical until it does."""
    probed = LOOPBACK if host in ("0.0.0.0", "::", "") else host  # noqa: S104
    payload = {
        "Kind": "api-gateway",
        "ID": gateway_id,
        "Name": service,
        # The address that Envoy binds.
        "Address": host,
        "Port": port,
        "Checks": [tcp_check(gateway_id, "listener", probed, port, LISTENER_INTERVAL)],
    }
    return stamped(payload, mesh=mesh)[0]


def ingress_entries(mesh: str, service: str, port: int, caller_lua: str) -> list[dict[str, Any]]:
    """service-defaults of the ingress and its api-gateway with one HTTP listener."""
    defaults = {
        "Kind": "service-defaults",
        "Name": service,
        "Protocol": "http",
        "EnvoyExtensions": [lua_extension("api-gateway", caller_lua)],
    }
    gateway = {
        "Kind": "api-gateway",
        "Name": service,
        "Listeners": [{"Name": LISTENER, "Port": port, "Protocol": "http"}],
    }
    return each_stamped([defaults, gateway], mesh)


def route_entry(spec: ServiceSpec, mesh: str, ingress_service: str) -> dict[str, Any]:
    """The http-route of a service that declares one; it leads to the service's `/mcp` (or `/`).

    The path is matched exactly and as a folder, so that `/mcp/files` does not
    also match `/mcp/filesystem`.
    """
    assert spec.route is not None
    path, root = spec.route.rstrip("/"), "/mcp" if spec.is_mcp else ""
    below = _rule(spec, {"Path": {"Match": "prefix", "Value": f"{path}/"}}, f"{root}/")
    route = {
        "Kind": "http-route",
        "Name": spec.name,
        "Parents": [{"Kind": "api-gateway", "Name": ingress_service, "SectionName": LISTENER}],
        "Rules": [_rule(spec, _exact_match(path, root), root or "/"), below] if path else [below],
    }
    return each_stamped([route], mesh)[0]


def _exact_match(path: str, root: str) -> dict[str, Any]:
    if root:
        return {"Path": {"Match": "exact", "Value": path}}
    # Consul rewrites to "/" only what it matched as a prefix (getRewriteActionForUserLogic
    # in its agent/xds/routes.go), so a header condition matches the rest of the path.
    whole_path = {"Match": "regex", "Name": ":path", "Value": rf"{re.escape(path)}(\?.*)?"}
    return {"Path": {"Match": "prefix", "Value": path}, "Headers": [whole_path]}


def _rule(spec: ServiceSpec, match: dict[str, Any], rewritten: str) -> dict[str, Any]:
    return {
        "Matches": [match],
        "Filters": {
            "URLRewrite": {"Path": rewritten},
            "TimeoutFilter": {"RequestTimeout": request_timeout(spec), "IdleTimeout": IDLE_TIMEOUT},
            "RetryFilter": {"NumRetries": RETRIES, "RetryOn": list(ROUTE_RETRY_ON)},
        },
        "Services": [{"Name": spec.name}],
    }
