"""The config entries of a service, of its route and of the ingress; pure.

Nothing here is global: a shared Consul's proxy-defaults are not ours. Each
list stands in the order in which Consul accepts it; the reverse takes it down.
"""

from __future__ import annotations

import re
from typing import Any

from mcpmesh.consul.marks import stamped
from mcpmesh.model.service import Protocol, ServiceSpec

LISTENER = "main"

# What may be tried again on another instance: nothing of the call was processed
# there. Answers of 503 are not among them, since an Envoy also gives that when
# the instance died in the middle of a call.
RETRY_ON = ("connect-failure", "refused-stream")
# Envoy knows a third safe one, which Consul's service-router refuses and its http-route takes.
ROUTE_RETRY_ON = (*RETRY_ON, "reset-before-request")
RETRIES = 5

# An instance on this host accepts and shakes hands in milliseconds; a busy one takes longer.
_CONNECT_TIMEOUT = "3s"
# Streams may be silent for as long as a call may take.
_IDLE_TIMEOUT = "24h"


def service_entries(spec: ServiceSpec, mesh: str, affinity_lua: str) -> list[dict[str, Any]]:
    """service-defaults, service-resolver and, for HTTP, service-router."""
    entries = [_defaults(spec, affinity_lua), _resolver(spec)]
    if spec.protocol is Protocol.HTTP:
        entries.append(_router(spec))
    return _each_stamped(entries, mesh)


def ingress_entries(mesh: str, service: str, port: int, affinity_lua: str) -> list[dict[str, Any]]:
    """service-defaults of the ingress and its api-gateway with one HTTP listener."""
    defaults = {
        "Kind": "service-defaults",
        "Name": service,
        "Protocol": "http",
        "EnvoyExtensions": [_lua("api-gateway", affinity_lua)],
    }
    gateway = {
        "Kind": "api-gateway",
        "Name": service,
        "Listeners": [{"Name": LISTENER, "Port": port, "Protocol": "http"}],
    }
    return _each_stamped([defaults, gateway], mesh)


def route_entry(spec: ServiceSpec, mesh: str, ingress_service: str) -> dict[str, Any]:
    """The http-route of a service that declares one; below its path lies what the service has at `/mcp` (or `/`).

    The path is matched exactly and as a folder, so that `/mcp/files` does not
    take `/mcp/filesystem` as well.
    """
    assert spec.route is not None
    path, root = spec.route.rstrip("/"), "/mcp" if spec.is_mcp else ""
    below = _rule(spec, {"Path": {"Match": "prefix", "Value": f"{path}/"}}, f"{root}/")
    route = {
        "Kind": "http-route",
        "Name": spec.name,
        "Parents": [{"Kind": "api-gateway", "Name": ingress_service, "SectionName": LISTENER}],
        "Rules": [_rule(spec, _exactly(path, root), root or "/"), below] if path else [below],
    }
    return _each_stamped([route], mesh)[0]


def _exactly(path: str, root: str) -> dict[str, Any]:
    if root:
        return {"Path": {"Match": "exact", "Value": path}}
    # Consul rewrites to "/" only what it matched as a prefix (getRewriteActionForUserLogic
    # in its agent/xds/routes.go), so the rest of the path is tied down as a header.
    whole = {"Match": "regex", "Name": ":path", "Value": rf"{re.escape(path)}(\?.*)?"}
    return {"Path": {"Match": "prefix", "Value": path}, "Headers": [whole]}


def _rule(spec: ServiceSpec, match: dict[str, Any], rewritten: str) -> dict[str, Any]:
    return {
        "Matches": [match],
        "Filters": {
            "URLRewrite": {"Path": rewritten},
            "TimeoutFilter": {"RequestTimeout": _request_timeout(spec), "IdleTimeout": _IDLE_TIMEOUT},
            "RetryFilter": {"NumRetries": RETRIES, "RetryOn": list(ROUTE_RETRY_ON)},
        },
        "Services": [{"Name": spec.name}],
    }


def _defaults(spec: ServiceSpec, affinity_lua: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"Kind": "service-defaults", "Name": spec.name, "Protocol": spec.protocol.value}
    # It is as a caller that a service keeps to the instances of its sessions.
    if spec.upstreams or spec.protocol is Protocol.HTTP:
        entry["EnvoyExtensions"] = [_lua("connect-proxy", affinity_lua)]
    return entry


def _resolver(spec: ServiceSpec) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "Kind": "service-resolver",
        "Name": spec.name,
        "ConnectTimeout": _CONNECT_TIMEOUT,
        "LoadBalancer": {"Policy": spec.balance},
    }
    if spec.protocol is Protocol.HTTP:
        entry["RequestTimeout"] = _request_timeout(spec)
    return entry


def _router(spec: ServiceSpec) -> dict[str, Any]:
    return {
        "Kind": "service-router",
        "Name": spec.name,
        "Routes": [
            {
                "Match": {"HTTP": {"PathPrefix": "/"}},
                "Destination": {
                    "Service": spec.name,
                    "RequestTimeout": _request_timeout(spec),
                    "IdleTimeout": _IDLE_TIMEOUT,
                    "NumRetries": RETRIES,
                    "RetryOn": list(RETRY_ON),
                },
            }
        ],
    }


def _lua(proxy: str, script: str) -> dict[str, Any]:
    arguments = {"ProxyType": proxy, "Listener": "outbound", "Script": script}
    return {"Name": "builtin/lua", "Arguments": arguments}


def _request_timeout(spec: ServiceSpec) -> str:
    return f"{spec.timeouts.request * 1000:.0f}ms"


def _each_stamped(entries: list[dict[str, Any]], mesh: str) -> list[dict[str, Any]]:
    return [stamped(entry, mesh=mesh)[0] for entry in entries]
