"""The registrations of an instance and of its sidecar; pure.

They are two, not one with a nested sidecar, since each has its own states: the
sidecar is deregistered before its instance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcpmesh.consul.ownership import stamped
from mcpmesh.model.observed_state import ServerInfo
from mcpmesh.model.service import Protocol, ServiceSpec

LOOPBACK = "127.0.0.1"

# An instance on the same host either accepts at once or is not there.
_CONNECT_MS = 2000
_CHECK_TIMEOUT = "5s"
# The shortest interval that Consul accepts; a sidecar gets calls this long after it listens.
LISTENER_INTERVAL = "1s"
# Consul's limit for one value of Meta.
_MAX_META_LENGTH = 512


def registration(
    spec: ServiceSpec,
    *,
    mesh: str,
    instance_id: str,
    port: int,
    sidecar_port: int,
    upstream_ports: Mapping[str, int],
    info: ServerInfo | None,
    address: str = LOOPBACK,
    host: str = LOOPBACK,
    check_port: int | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The registrations of an instance that answers at `address`:`port`, and of its sidecar at `host`:`sidecar_port`.

    The instance is passing from the start, since it was probed just before;
    the sidecar is critical until its listener accepts. Upstreams without a
    port in `upstream_ports` are left out. Where instance and sidecar have a
    loopback of their own, Consul checks the instance's /ready through its
    sidecar at `host`:`check_port`, which leads to nothing else.
    """
    instance, sidecar = stamped(
        _instance(spec, instance_id, (address, port), (host, check_port) if check_port else (address, port), info),
        _sidecar(spec, instance_id, (address, port), (host, sidecar_port), upstream_ports, check_port),
        mesh=mesh,
    )
    return instance, sidecar


def _instance(
    spec: ServiceSpec, id_: str, local: tuple[str, int], checked: tuple[str, int], info: ServerInfo | None
) -> dict[str, Any]:
    address, port = local
    return {
        "ID": id_,
        "Name": spec.name,
        "Address": address,
        "Port": port,
        "Tags": list(spec.tags),
        "Meta": {"mcpmesh-instance": id_, **_server(info)},
        "Checks": [_ready(spec, id_, *checked)],
    }


def _server(info: ServerInfo | None) -> dict[str, str]:
    if info is None:
        return {}
    meta = {
        "mcpmesh-protocol-versions": ",".join(info.protocol_versions),
        "mcpmesh-server": info.name,
        "mcpmesh-server-version": info.version,
        "mcpmesh-tools": str(len(info.tools)),
    }
    return {key: value[:_MAX_META_LENGTH] for key, value in meta.items()}


def _ready(spec: ServiceSpec, id_: str, address: str, port: int) -> dict[str, Any]:
    interval = f"{spec.health.interval * 1000:.0f}ms"
    path = "/ready" if spec.is_mcp else spec.health.path
    if path is None or spec.protocol is Protocol.TCP:
        return {**tcp_check(id_, "ready", address, port, interval), "Status": "passing"}
    url = f"http://{_bracketed(address)}:{port}{path}"
    check = {**_check(id_, "ready", interval), "HTTP": url, "Timeout": _CHECK_TIMEOUT, "Status": "passing"}
    # A shim accepts only host names of loopback.
    return {**check, "Header": {"Host": ["localhost"]}} if spec.is_mcp and address != LOOPBACK else check


def _sidecar(
    spec: ServiceSpec,
    id_: str,
    local: tuple[str, int],
    public: tuple[str, int],
    upstream_ports: Mapping[str, int],
    check_port: int | None,
) -> dict[str, Any]:
    sidecar_id, (host, port) = f"{id_}-sidecar", public
    exposed = {"Path": "/ready", "LocalPathPort": local[1], "ListenerPort": check_port, "Protocol": "http"}
    return {
        "ID": sidecar_id,
        "Name": f"{spec.name}-sidecar",
        "Kind": "connect-proxy",
        "Address": host,
        "Port": port,
        "Meta": {"mcpmesh-instance": id_},
        "Proxy": {
            **({"Expose": {"Paths": [exposed]}} if check_port else {}),
            "DestinationServiceName": spec.name,
            "DestinationServiceID": id_,
            "LocalServiceAddress": local[0],
            "LocalServicePort": local[1],
            "Config": _proxy_config(spec, host),
            "Upstreams": [
                {
                    "DestinationName": upstream.service,
                    "LocalBindAddress": LOOPBACK,
                    "LocalBindPort": upstream_ports[upstream.service],
                }
                for upstream in spec.upstreams
                if upstream.service in upstream_ports
            ],
        },
        "Checks": [
            tcp_check(sidecar_id, "listener", host, port, LISTENER_INTERVAL),
            {"CheckID": f"{sidecar_id}:instance", "Name": "instance", "AliasService": id_},
        ],
    }


def _proxy_config(spec: ServiceSpec, host: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "protocol": spec.protocol.value,
        "bind_address": host,
        "local_connect_timeout_ms": _CONNECT_MS,
    }
    # The caller's sidecar limits the time of a call (service-resolver). 0 means no limit here;
    # Envoy's default would end a call after 15 s.
    unlimited = {"local_request_timeout_ms": 0, "local_idle_timeout_ms": 0}
    return config | (unlimited if spec.protocol is Protocol.HTTP else {})


def tcp_check(id_: str, name: str, address: str, port: int, interval: str) -> dict[str, Any]:
    """A check that a program accepts connections at `address`:`port`."""
    return {**_check(id_, name, interval), "TCP": f"{_bracketed(address)}:{port}", "Timeout": _CHECK_TIMEOUT}


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _check(id_: str, name: str, interval: str) -> dict[str, Any]:
    return {"CheckID": f"{id_}:{name}", "Name": name, "Interval": interval}
