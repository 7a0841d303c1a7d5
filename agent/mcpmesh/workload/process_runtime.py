"""Runs the instances of a catalog as processes of this machine.

An MCP server gets a shim (a program of its own, which owns the server); a
plain service is started as it is, with its port in `PORT`; one that runs
elsewhere gets nothing. All outlive us and are found again by their mark.
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
from mcpmesh.model.observed import Workload
from mcpmesh.model.service import Plain, ServiceSpec, Stdio
from mcpmesh.workload import shim_status
from mcpmesh.workload.log_tail import last_line
from mcpmesh.workload.runtime import PLAIN, SHIM, EnvoyLaunch, Neighbour, PreferredPorts, PublishedPort

# After `quit` an Envoy needs some tens of milliseconds; beyond this it is stuck.
_QUIT_SECONDS = 5.0


class ProcessRuntime:
    """The process runtime (see Runtime). `home` is the mesh's folder; new ports are taken from `ports`.

    `names` are those of hosts by which callers know the ingress, beside loopback.
    """

    sockets = None

    def __init__(self, mesh: str, home: Path, ports: PortAllocator, names: Collection[str] = ()) -> None:
        self._names = names
        self._mesh = mesh
        self._home = home
        self._ports = ports
        self._http = http_client(None, timeout=5.0)

    async def close(self) -> None:
        """Closes the connections to the shims; they run on."""
        await self._http.aclose()

    async def found(self) -> list[Process]:
        """See Runtime."""
        return find_marked(self._home)

    async def start(self, spec: ServiceSpec, instance: Instance, kept: PreferredPorts, taken: Collection[int]) -> None:
        """See Runtime; raises WorkloadError when the program is not there or cannot be executed."""
        start, ports = spec.start, self._chosen(spec, kept, set(taken))
        role = PLAIN if isinstance(start, Plain) else SHIM
        drain = spec.timeouts.drain
        mark = Mark(self._mesh, str(self._home), role, instance.id, spec.name, instance.digest, ports, drain)
        upstreams = shim_status.upstream_environment(spec, ports)
        if isinstance(start, Plain):
            env = shim_status.plainly(start.env)
            program = _program(spec.name, start.command or "", start.cwd, env)
            env = {**env, **upstreams, "PORT": str(ports["http"])}
            spawn(mark, [program, *start.args], env=env, log=self._log(instance.id), cwd=start.cwd)
            return
        if isinstance(start, Stdio):
            if start.image is not None:
                raise WorkloadError(f'cannot run "{spec.name}" without containers: it is an image (docs/compose.md)')
            program = _program(spec.name, start.command, start.cwd, shim_status.plainly(start.env))
            spec = replace(spec, start=replace(start, command=program))
        affinity = f"127.0.0.1:{ports['sidecar']}"
        config = json.dumps(shim_status.configuration(spec, instance, ports, affinity, self._names)).encode()
        argv = [sys.executable, "-m", "mcpmesh.shim", "--config", "-"]
        spawn(mark, argv, env={}, log=self._log(instance.id), stdin=config, cwd=self._home)

    def _chosen(self, spec: ServiceSpec, kept: PreferredPorts, taken: set[int]) -> dict[str, int]:
        def port(preferred: int | None) -> int:
            chosen = preferred or self._ports.take(taken)
            taken.add(chosen)
            return chosen

        # Somebody may have taken a port meanwhile; the sidecar's own Envoy rightly holds its.
        def still(port: int | None) -> bool:
            return port is not None and reserve_free(port, OPENED_WITHIN_SECONDS)

        ports = {"http": port(kept.port if still(kept.port) else None)}
        stays = kept.beside or still(kept.sidecar_port)
        ports["sidecar"] = port(kept.sidecar_port if stays else None)
        for upstream in spec.upstreams:
            ports[f"upstream:{upstream.service}"] = port(upstream.port)
        return ports

    async def observe(self, process: Process) -> Workload:
        """See Runtime."""
        if process.mark.role == PLAIN:
            listens = await accepts_connections("127.0.0.1", process.mark.ports["http"])
            return replace(shim_status.begun(process), state="ready" if listens else "starting")
        return await shim_status.ask(self._http, process)

    def descends_from(self, process: Process, ancestors: Collection[int]) -> bool:
        """See Runtime."""
        pid = process.pid
        while pid > 1:
            if pid in ancestors:
                return True
            try:
                pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                return True  # gone meanwhile: nothing to end
        return False

    async def stop(self, process: Process, drain_seconds: float) -> None:
        """See Runtime."""
        # A shim needs its own time to stop the server in order after it has drained.
        await stop(process, drain_seconds + 10.0)

    def is_free(self, port: int) -> bool:
        """See Runtime."""
        return is_free(port)

    async def start_envoy(self, envoy: EnvoyLaunch, taken: Collection[int]) -> None:
        """See Runtime; the bootstrap is kept in a 0600 file, since it holds Consul's token."""
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
        """See Runtime; whoever asks is beside it already, and has nothing to be carried over."""
        del envoy, arguments
        return ""

    async def published(self) -> list[PublishedPort]:
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

    async def last_words(self, name: str) -> str:
        """See Runtime."""
        return last_line(self._log(name))

    async def any_end(self, processes: Sequence[Process]) -> None:
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
