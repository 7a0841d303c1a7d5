"""The config entries of a service; pure.

Nothing here is global: a shared Consul's proxy-defaults are not ours. Each
list stands in the order in which Consul accepts it; the reverse takes it down.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mcpmesh.consul.ownership import POLICY, stamped
from mcpmesh.model.service import Protocol, ServiceSpec

# What may be tried again on another instance: nothing of the call was processed
# there. Answers of 503 are not among them, since an Envoy also gives that when
# the instance died in the middle of a call.
RETRY_ON = ("connect-failure", "refused-stream")
RETRIES = 5

# An instance on this host accepts and shakes hands in milliseconds; a busy one takes longer.
_CONNECT_TIMEOUT = 3.0
# Streams may be silent for as long as a call may take.
IDLE_TIMEOUT = "24h"


def service_entries(spec: ServiceSpec, mesh: str, caller_lua: str, callee_lua: str) -> list[dict[str, Any]]:
    """service-defaults, service-resolver and, for HTTP, service-router."""
    entries = [_defaults(spec, caller_lua, callee_lua), _resolver(spec)]
    if spec.protocol is Protocol.HTTP:
        entries.append(_router(spec))
    return each_stamped(entries, mesh)


def _defaults(spec: ServiceSpec, caller_lua: str, callee_lua: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"Kind": "service-defaults", "Name": spec.name, "Protocol": spec.protocol.value}
    extensions = []
    # It is as a caller that a service keeps to the instances of its sessions.
    if spec.upstreams or spec.protocol is Protocol.HTTP:
        extensions.append(lua_extension("connect-proxy", caller_lua))
    if spec.protocol is Protocol.HTTP:
        extensions.append(lua_extension("connect-proxy", callee_lua, "inbound"))
    return {**entry, "EnvoyExtensions": extensions} if extensions else entry


def _resolver(spec: ServiceSpec) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "Kind": "service-resolver",
        "Name": spec.name,
        "ConnectTimeout": f"{_CONNECT_TIMEOUT:.0f}s",
        "LoadBalancer": {"Policy": spec.balance},
    }
    if spec.protocol is Protocol.HTTP:
        entry["RequestTimeout"] = request_timeout(spec)
    return entry


def with_reconnect_digest(entries: Iterable[dict[str, Any]], policy: str) -> list[dict[str, Any]]:
    """The entries of a service, such that its callers connect anew whenever `policy` (a digest, hex) differs.

    An Envoy applies a changed intention to a connection that is idle only
    after that has carried one more call. It drops idle connections, and no
    others, when the cluster that they belong to changes; so some microseconds
    of the connect timeout stand for the policy (docs/decisions/0008).
    """
    microseconds = int(policy, 16) % 1_000_000
    timeout = f"{_CONNECT_TIMEOUT * 1_000_000 + microseconds:.0f}us"
    return [
        {**entry, "ConnectTimeout": timeout, "Meta": {**entry["Meta"], POLICY: policy}}
        if entry["Kind"] == "service-resolver"
        else entry
        for entry in entries
    ]


def _router(spec: ServiceSpec) -> dict[str, Any]:
    return {
        "Kind": "service-router",
        "Name": spec.name,
        "Routes": [
            {
                "Match": {"HTTP": {"PathPrefix": "/"}},
                "Destination": {
                    "Service": spec.name,
                    "RequestTimeout": request_timeout(spec),
                    "IdleTimeout": IDLE_TIMEOUT,
                    "NumRetries": RETRIES,
                    "RetryOn": list(RETRY_ON),
                },
            }
        ],
    }


def lua_extension(proxy: str, script: str, listener: str = "outbound") -> dict[str, Any]:
    """Consul's Lua extension, acting on what a proxy of that kind sends out (or takes in: "inbound")."""
    arguments = {"ProxyType": proxy, "Listener": listener, "Script": script}
    return {"Name": "builtin/lua", "Arguments": arguments}


def request_timeout(spec: ServiceSpec) -> str:
    """How long a call may take, as Consul writes it."""
    return f"{spec.timeouts.request * 1000:.0f}ms"


def each_stamped(entries: list[dict[str, Any]], mesh: str) -> list[dict[str, Any]]:
    """The entries with our mark, each with a digest of its own."""
    return [stamped(entry, mesh=mesh)[0] for entry in entries]
