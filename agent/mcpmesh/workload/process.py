"""Runs the instances of a catalog as processes of this machine.

An MCP server gets a shim (a program of its own, which owns the server); a
plain service is started as it is, with its port in `PORT`; one that runs
elsewhere gets nothing. All outlive us and are found again by their mark.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any

import httpx

from mcpmesh.errors import WorkloadError
from mcpmesh.kit.process import Mark, Process, spawn, stop
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed import ServerInfo, ToolDigest, Workload
from mcpmesh.model.service import Plain, Remote, ServiceSpec, Stdio

SHIM = "shim"
PLAIN = "plain"


class Processes:
    """The process runtime. `home` is the mesh's folder."""

    def __init__(self, mesh: str, home: Path) -> None:
        self._mesh = mesh
        self._home = home
        self._http = httpx.AsyncClient(timeout=5.0, trust_env=False)

    async def close(self) -> None:
        """Closes the connections to the shims; they run on."""
        await self._http.aclose()

    def log(self, instance: Instance | str) -> Path:
        """Where an instance's output goes."""
        return self._home / "logs" / f"{instance if isinstance(instance, str) else instance.id}.log"

    def start(self, spec: ServiceSpec, instance: Instance, ports: Mapping[str, int]) -> int:
        """Starts an instance at `ports` ("http", "sidecar", and one per upstream); returns its pid.

        Raises WorkloadError when the program is not there or cannot be executed.
        """
        start = spec.start
        role = PLAIN if isinstance(start, Plain) else SHIM
        mark = Mark(self._mesh, str(self._home), role, instance.id, spec.name, instance.digest, ports)
        upstreams = _upstream_environment(spec, ports)
        if isinstance(start, Plain):
            program = _program(spec.name, start.command or "", start.cwd, {**_plainly(start.env)})
            env = {**_plainly(start.env), **upstreams, "PORT": str(ports["http"])}
            return spawn(mark, [program, *start.args], env=env, log=self.log(instance), cwd=start.cwd)
        config = json.dumps(_shim_config(spec, instance, ports, upstreams)).encode()
        argv = [sys.executable, "-m", "mcpmesh.shim", "--config", "-"]
        return spawn(mark, argv, env={}, log=self.log(instance), stdin=config, cwd=self._home)

    async def stop(self, process: Process, drain_seconds: float) -> None:
        """Lets an instance finish what it does within `drain_seconds`, then ends it and its server."""
        # A shim needs its own time to stop the server in order after it has drained.
        await stop(process, drain_seconds + 10.0)

    async def observe(self, process: Process) -> Workload:
        """What the instance answers now; never raises, a silent one is "unreachable"."""
        mark = process.mark
        seen = Workload(
            instance=mark.instance,
            service=mark.service,
            pid=process.pid,
            port=mark.ports["http"],
            sidecar_port=mark.ports["sidecar"],
            upstream_ports={k.removeprefix("upstream:"): v for k, v in mark.ports.items() if k.startswith("upstream:")},
            state="starting",
        )
        if mark.role == PLAIN:
            return replace(seen, state="ready" if await connects("127.0.0.1", seen.port) else "starting")
        return await self._ask_shim(seen)

    async def _ask_shim(self, seen: Workload) -> Workload:
        base = f"http://127.0.0.1:{seen.port}"
        try:
            answer = await self._http.get(f"{base}/ready")
            body = answer.json()
            if answer.status_code != httpx.codes.OK:
                return replace(seen, state=str(body.get("state", "starting")), error=_reason(body))
            info = (await self._http.get(f"{base}/info")).json()
        except httpx.ConnectError:  # not listening yet: the shim has only just begun
            return seen
        except (httpx.TransportError, ValueError) as error:
            return replace(seen, state="unreachable", error=f"its shim does not answer: {error!r}")
        if info.get("instance") != seen.instance:
            return replace(seen, state="unreachable", error=f"port {seen.port} is answered by another program")
        return replace(seen, state="ready", info=_server_info(info))


async def connects(host: str, port: int, timeout: float = 2.0) -> bool:
    """Whether somebody accepts connections there."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def check_program(spec: ServiceSpec) -> None:
    """Raises WorkloadError, with the next step, when the service's program is not on this machine."""
    if isinstance(spec.start, Stdio | Plain) and spec.start.command:
        _program(spec.name, spec.start.command, spec.start.cwd, _plainly(spec.start.env))


_INSTALLERS = {
    "npx": "install Node.js",
    "node": "install Node.js",
    "uvx": "install uv",
    "uv": "install uv",
    "docker": "install Docker",
    "bunx": "install Bun",
    "deno": "install Deno",
}


def _program(service: str, command: str, cwd: Path, env: Mapping[str, str]) -> str:
    if not cwd.is_dir():
        raise WorkloadError(f'cannot start "{service}": its working directory {cwd} does not exist')
    if "/" in command:
        path = cwd / command
        if not path.exists():
            raise WorkloadError(f'cannot start "{service}": {path} does not exist; install it, or mend "command"')
        if which(str(path)) is None:
            raise WorkloadError(f'cannot start "{service}": {path} is not executable; chmod +x it')
        return str(path)
    found = which(command, path=env.get("PATH"))
    if found is None:
        step = _INSTALLERS.get(command, f"install {command}")
        raise WorkloadError(f'cannot start "{service}": {command} is not on PATH; {step}, or give its full path')
    return found


def _plainly(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in values.items()}


def _upstream_environment(spec: ServiceSpec, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        f"MCPMESH_UPSTREAM_{upstream.service.upper().replace('-', '_')}": f"127.0.0.1:{ports[key]}"
        for upstream in spec.upstreams
        if (key := f"upstream:{upstream.service}") in ports
    }


def _shim_config(
    spec: ServiceSpec, instance: Instance, ports: Mapping[str, int], upstreams: Mapping[str, str]
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": spec.name,
        "instance": instance.id,
        "host": "127.0.0.1",
        "port": ports["http"],
        "affinity": f"127.0.0.1:{ports['sidecar']}",
        "start_seconds": spec.timeouts.start,
        "request_seconds": spec.timeouts.request,
        "drain_seconds": spec.timeouts.drain,
    }
    if isinstance(spec.start, Stdio):
        env = _plainly(spec.start.env)
        config |= {
            "command": _program(spec.name, spec.start.command, spec.start.cwd, env),
            "args": list(spec.start.args),
            "env": {**env, **upstreams},
            "cwd": str(spec.start.cwd),
            "isolation": spec.start.isolation.value,
        }
    elif isinstance(spec.start, Remote):
        config |= {"url": spec.start.url, "headers": _plainly(spec.start.headers)}
    return config


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
