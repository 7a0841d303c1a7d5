"""Runs the instances of a catalog as processes of this machine.

An MCP server gets a shim, a program of its own that starts the server. A plain
service is started as it is, with its port in `PORT`; for one that runs
elsewhere nothing is started. All outlive the agent and are found by their mark.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import which

from mcpmesh.errors import WorkloadError
from mcpmesh.kit.marked_process import Mark, Process, find_marked, spawn, stop, wait_for_any_end
from mcpmesh.kit.ports import OPENED_WITHIN_SECONDS, PortAllocator, accepts_connections, is_free, reserve_free
from mcpmesh.kit.private_files import private_folder, write_private
from mcpmesh.kit.unix_http import http_client
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import Workload
from mcpmesh.model.service import Plain, ServiceSpec, Stdio
from mcpmesh.workload.log_tail import last_line
from mcpmesh.workload.runtime import PLAIN, SHIM, EnvoyLaunch, Neighbour, PreferredPorts, PublishedPort
from mcpmesh.workload.shim_config import revealed, shim_config, upstream_environment
from mcpmesh.workload.shim_status import read_shim_status, starting_workload

# After `quit` an Envoy needs some tens of milliseconds; beyond this it is stuck.
_QUIT_SECONDS = 5.0
# A shim that has drained still needs time to stop its server in order.
_SERVER_STOP_SECONDS = 10.0


class ProcessRuntime:
    """The process runtime (see Runtime). `home` is the mesh's folder; new ports come from `ports`.

    `ingress_names` are the hosts, beside loopback, by which clients name the ingress.
    """

    isolated = False
    socket_folder = None

    def __init__(self, mesh: str, home: Path, ports: PortAllocator, ingress_names: Collection[str] = ()) -> None:
        self._ingress_names = ingress_names
        self._mesh = mesh
        self._home = home
        self._ports = ports
        self._http = http_client(None, timeout=5.0)

    async def close(self) -> None:
        """Closes the connections to the shims, which keep running."""
        await self._http.aclose()

    async def list_processes(self) -> list[Process]:
        """See Runtime."""
        return find_marked(self._home)

    async def start(
        self, spec: ServiceSpec, instance: Instance, preferred: PreferredPorts, taken: Collection[int]
    ) -> None:
        """See Runtime; raises WorkloadError when the program is missing or cannot be executed."""
        start, ports = spec.start, self._choose_ports(spec, preferred, set(taken))
        role = PLAIN if isinstance(start, Plain) else SHIM
        drain = spec.timeouts.drain
        mark = Mark(self._mesh, str(self._home), role, instance.id, spec.name, instance.digest, ports, drain)
        if isinstance(start, Plain):
            env = revealed(start.env)
            program = _program(spec.name, start.command or "", start.cwd, env)
            env = {**env, **upstream_environment(spec, ports), "PORT": str(ports["http"])}
            spawn(mark, [program, *start.args], env=env, log=self._log(instance.id), cwd=start.cwd)
            return
        if isinstance(start, Stdio):
            if start.image is not None:
                raise WorkloadError(f'cannot run "{spec.name}" without containers: it is an image (docs/compose.md)')
            program = _program(spec.name, start.command, start.cwd, revealed(start.env))
            spec = replace(spec, start=replace(start, command=program))
        affinity = f"127.0.0.1:{ports['sidecar']}"
        config = json.dumps(shim_config(spec, instance, ports, affinity, self._ingress_names)).encode()
        argv = [sys.executable, "-m", "mcpmesh.shim", "--config", "-"]
        spawn(mark, argv, env={}, log=self._log(instance.id), stdin=config, cwd=self._home)

    def _choose_ports(self, spec: ServiceSpec, preferred: PreferredPorts, taken: set[int]) -> dict[str, int]:
        def choose(port: int | None) -> int:
            chosen = port or self._ports.take(taken)
            taken.add(chosen)
            return chosen

        # Another program may have taken a preferred port meanwhile.
        def is_obtainable(port: int | None) -> bool:
            return port is not None and reserve_free(port, OPENED_WITHIN_SECONDS)

        ports = {"http": choose(preferred.port if is_obtainable(preferred.port) else None)}
        keeps_sidecar_port = preferred.envoy_runs or is_obtainable(preferred.sidecar_port)
        ports["sidecar"] = choose(preferred.sidecar_port if keeps_sidecar_port else None)
        for upstream in spec.upstreams:
            ports[f"upstream:{upstream.service}"] = choose(upstream.port)
        return ports

    async def observe(self, process: Process) -> Workload:
        """See Runtime."""
        if process.mark.role == PLAIN:
            listens = await accepts_connections("127.0.0.1", process.mark.ports["http"])
            return replace(starting_workload(process), state="ready" if listens else "starting")
        return await read_shim_status(self._http, process)

    def descends_from(self, process: Process, ancestors: Collection[int]) -> bool:
        """See Runtime."""
        pid = process.pid
        while pid > 1:
            if pid in ancestors:
                return True
            try:
                pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                return True  # it has ended meanwhile: there is nothing to end
        return False

    async def stop(self, process: Process, drain_seconds: float) -> None:
        """See Runtime."""
        await stop(process, drain_seconds + _SERVER_STOP_SECONDS)

    def is_free(self, port: int) -> bool:
        """See Runtime."""
        return is_free(port)

    async def start_envoy(self, envoy: EnvoyLaunch, taken: Collection[int]) -> None:
        """See Runtime; the bootstrap is written to a 0600 file, since it holds Consul's token."""
        admin = self._ports.take(taken)
        path = private_folder(self._home / "envoy") / f"{envoy.mark.instance}.json"
        write_private(path, await envoy.bootstrap(admin))
        mark = replace(envoy.mark, ports={**envoy.mark.ports, "admin": admin})
        spawn(mark, envoy.arguments(path), env={}, log=self._log(f"{mark.instance}.{mark.role}"))

    async def stop_envoy(self, process: Process) -> None:
        """See Runtime."""
        await stop(process, _QUIT_SECONDS)
        (self._home / "envoy" / f"{process.mark.instance}.json").unlink(missing_ok=True)

    async def end(self, process: Process, grace_seconds: float) -> None:
        """See Runtime."""
        await stop(process, grace_seconds)

    async def run_in_namespace_of(self, envoy: Process, arguments: Sequence[str]) -> str:
        """See Runtime; the caller is in that namespace itself."""
        del envoy, arguments
        return ""

    async def published_ports(self) -> list[PublishedPort]:
        """See Runtime."""
        return []

    async def neighbours(self) -> list[Neighbour]:
        """See Runtime."""
        return []

    async def ingress_hosts(self) -> tuple[str, str] | None:
        """See Runtime."""
        return None

    def remove_bootstraps(self) -> None:
        """See Runtime."""
        for path in (self._home / "envoy").glob("*.json"):
            path.unlink(missing_ok=True)

    async def last_log_line(self, name: str) -> str:
        """See Runtime."""
        return last_line(self._log(name))

    async def wait_for_any_end(self, processes: Sequence[Process]) -> None:
        """See Runtime."""
        await wait_for_any_end([process.pid for process in processes])

    def _log(self, name: str) -> Path:
        return self._home / "logs" / f"{name}.log"


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
    """The program's path, absolute or found on PATH; raises WorkloadError with the next step."""
    if not cwd.is_dir():
        raise WorkloadError(f'cannot start "{service}": its working directory {cwd} does not exist')
    if "/" in command:
        path = cwd / command
        if not path.exists():
            raise WorkloadError(f'cannot start "{service}": {path} does not exist; install it, or fix "command"')
        if which(str(path)) is None:
            raise WorkloadError(f'cannot start "{service}": {path} is not executable; chmod +x it')
        return str(path)
    found = which(command, path=env.get("PATH"))
    if found is None:
        step = _INSTALLERS.get(command, f"install {command}")
        raise WorkloadError(f'cannot start "{service}": {command} is not on PATH; {step}, or give its full path')
    return found
