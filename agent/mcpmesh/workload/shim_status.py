"""What a shim is told, and what it answers, wherever it runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import httpx
from pydantic import SecretStr

from mcpmesh.kit.marked_process import Process
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed import ServerInfo, ToolDigest, Workload
from mcpmesh.model.service import Remote, ServiceSpec, Stdio


def configuration(
    spec: ServiceSpec, instance: Instance, ports: Mapping[str, int], affinity: str, names: Collection[str]
) -> dict[str, Any]:
    """The shim's configuration (docs/shim.md), secrets in the clear.

    `affinity` is the address of its sidecar; callers may name its host by `names` too.
    """
    config: dict[str, Any] = {
        "name": spec.name,
        "instance": instance.id,
        "host": "127.0.0.1",
        "port": ports["http"],
        "affinity": affinity,
        "allowed_hosts": sorted(names),
        "start_seconds": spec.timeouts.start,
        "request_seconds": spec.timeouts.request,
        "drain_seconds": spec.timeouts.drain,
    }
    if isinstance(spec.start, Stdio):
        config |= {
            "command": spec.start.command,
            "args": list(spec.start.args),
            "env": {**plainly(spec.start.env), **upstream_environment(spec, ports)},
            "cwd": str(spec.start.cwd),
            "isolation": spec.start.isolation.value,
        }
    elif isinstance(spec.start, Remote):
        config |= {"url": spec.start.url, "headers": plainly(spec.start.headers)}
    return config


def plainly(values: Mapping[str, SecretStr]) -> dict[str, str]:
    """Secrets as they are handed over."""
    return {name: value.get_secret_value() for name, value in values.items()}


def upstream_environment(spec: ServiceSpec, ports: Mapping[str, int]) -> dict[str, str]:
    """Where a service finds those that it calls, as its environment says it."""
    return {
        f"MCPMESH_UPSTREAM_{upstream.service.upper().replace('-', '_')}": f"127.0.0.1:{ports[key]}"
        for upstream in spec.upstreams
        if (key := f"upstream:{upstream.service}") in ports
    }


def begun(process: Process) -> Workload:
    """An instance of which only its mark is known."""
    mark = process.mark
    return Workload(
        instance=mark.instance,
        service=mark.service,
        pid=process.pid,
        port=mark.ports["http"],
        sidecar_port=mark.ports["sidecar"],
        upstream_ports={k.removeprefix("upstream:"): v for k, v in mark.ports.items() if k.startswith("upstream:")},
        state="starting",
        host=process.host,
        check_port=mark.ports.get("check"),
    )


async def ask(http: httpx.AsyncClient, process: Process) -> Workload:
    """What a shim answers now; never raises, a silent one is "unreachable"."""
    seen = begun(process)
    base = f"http://{process.private_address('http')}"
    try:
        answer = await http.get(f"{base}/ready")
        body = answer.json()
        if answer.status_code != httpx.codes.OK:
            return replace(seen, state=str(body.get("state", "starting")), error=_reason(body))
        info = (await http.get(f"{base}/info")).json()
    except httpx.ConnectError:  # not listening yet: the shim has only just begun
        return seen
    except (httpx.TransportError, ValueError) as error:
        return replace(seen, state="unreachable", error=f"its shim does not answer: {error!r}")
    if info.get("instance") != seen.instance:
        return replace(seen, state="unreachable", error=f"port {seen.port} is answered by another program")
    return replace(seen, state="ready", info=_server_info(info))


def _reason(body: Mapping[str, Any]) -> str:
    error = str(body.get("error") or "")
    output = [str(line) for line in body.get("output") or ()]
    return f"{error} (last output: {output[-1]})" if error and output and output[-1] not in error else error


def _server_info(info: Mapping[str, Any]) -> ServerInfo:
    server = info.get("server") or {}
    return ServerInfo(
        name=str(server.get("name", "")),
        version=str(server.get("version", "")),
        protocol_versions=tuple(info.get("protocol_versions") or ()),
        tools=tuple(ToolDigest(str(tool["name"]), str(tool["digest"])) for tool in info.get("tools") or ()),
    )
