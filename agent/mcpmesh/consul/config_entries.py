"""The config entries of a service; pure.

None of them is global: a shared Consul's proxy-defaults are not ours. Each
list is in the order in which Consul accepts it; they are deleted in reverse.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mcpmesh.consul.ownership import POLICY, stamped
from mcpmesh.model.service import Protocol, ServiceSpec

# When a call is retried on another instance: it was not processed at all. An answer
# of 503 is not among them, since an Envoy also gives it when the instance died in
# the middle of a call.
RETRY_ON = ("connect-failure", "refused-stream")
RETRIES = 5

# An instance on this host accepts and completes the TLS handshake in milliseconds; a busy one takes longer.
_CONNECT_SECONDS = 3.0
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
    # The callers' script keeps a session with its instance.
    if spec.upstreams or spec.protocol is Protocol.HTTP:
        extensions.append(lua_extension("connect-proxy", caller_lua))
    if spec.protocol is Protocol.HTTP:
        extensions.append(lua_extension("connect-proxy", callee_lua, "inbound"))
    return {**entry, "EnvoyExtensions": extensions} if extensions else entry


def _resolver(spec: ServiceSpec) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "Kind": "service-resolver",
        "Name": spec.name,
        "ConnectTimeout": f"{_CONNECT_SECONDS:.0f}s",
        "LoadBalancer": {"Policy": spec.balance},
    }
    if spec.protocol is Protocol.HTTP:
        entry["RequestTimeout"] = request_timeout(spec)
    return entry


def with_reconnect_digest(entries: Iterable[dict[str, Any]], policy: str) -> list[dict[str, Any]]:
    """The entries, changed so that callers reconnect when `policy` (a digest of the intentions, hex) changes.

    An Envoy applies a changed intention to an idle connection only after one
    more call on it. It closes idle connections, and no others, when their
    cluster changes. So some microseconds of the connect timeout are computed
    from the policy (docs/decisions/0008).
    """
    microseconds = int(policy, 16) % 1_000_000
    timeout = f"{_CONNECT_SECONDS * 1_000_000 + microseconds:.0f}us"
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
    """Consul's Lua extension, for the outbound (or "inbound") listeners of proxies of that kind."""
    arguments = {"ProxyType": proxy, "Listener": listener, "Script": script}
    return {"Name": "builtin/lua", "Arguments": arguments}


def request_timeout(spec: ServiceSpec) -> str:
    """The longest duration of a call, in Consul's format."""
    return f"{spec.timeouts.request * 1000:.0f}ms"


def each_stamped(entries: list[dict[str, Any]], mesh: str) -> list[dict[str, Any]]:
    """The entries with our owner in `Meta`, each with a digest of its own."""
    return [stamped(entry, mesh=mesh)[0] for entry in entries]
