"""The state of an instance, as its shim's pages tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx

from mcpmesh.kit.marked_process import Process
from mcpmesh.model.observed_state import ServerInfo, ToolDigest, Workload


def starting_workload(process: Process) -> Workload:
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


async def read_shim_status(http: httpx.AsyncClient, process: Process) -> Workload:
    """The shim's answer; never raises, a shim that does not answer is "unreachable"."""
    workload = starting_workload(process)
    base = f"http://{process.private_address('http')}"
    try:
        answer = await http.get(f"{base}/ready")
        body = answer.json()
        if answer.status_code != httpx.codes.OK:
            return replace(workload, state=str(body.get("state", "starting")), error=_reason(body))
        info = (await http.get(f"{base}/info")).json()
    except httpx.ConnectError:  # the shim has just started and does not listen yet
        return workload
    except (httpx.TransportError, ValueError) as error:
        return replace(workload, state="unreachable", error=f"its shim does not answer: {error!r}")
    if info.get("instance") != workload.instance:
        return replace(workload, state="unreachable", error=f"port {workload.port} is answered by another program")
    return replace(workload, state="ready", info=_server_info(info))


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
