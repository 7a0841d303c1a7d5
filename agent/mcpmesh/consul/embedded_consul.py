"""Our own Consul: one server on loopback whose data outlives every restart.

It outlives the agent and is found by its mark, so the next agent adopts it. One
that runs with other ports or another configuration than wanted is stopped in
order and started anew on the same data.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from mcpmesh.consul.client import Consul
from mcpmesh.errors import PeerError, WorkloadError
from mcpmesh.kit.marked_process import Mark, Process, find_marked, spawn, stop, wait_for_any_end
from mcpmesh.kit.packaged_files import resource_path
from mcpmesh.kit.private_files import private_folder, write_private

ROLE = "consul"
PORTS = ("http", "grpc", "serf_lan", "server")

Progress = Callable[[str], None]

# Its log has five files of this size.
_LOG_BYTES = 5 * 1024 * 1024
_LOG_FILES = 4
_POLL_SECONDS = 0.1
_PROGRESS_SECONDS = 3.0
# A clean stop takes well under a second; beyond this it hangs.
_STOP_SECONDS = 10.0
# While it is starting it does not react to signals.
_ABORT_SECONDS = 1.0
_LAST_LINES = 8


class EmbeddedConsul:
    """The Consul of the mesh at `home`; `ports` has one for each of `PORTS`."""

    def __init__(self, binary: Path, mesh: str, home: Path, ports: Mapping[str, int]) -> None:
        self._binary = binary
        self._mesh = mesh
        self._home = home
        self._ports = {name: ports[name] for name in PORTS}
        self.address = f"http://127.0.0.1:{ports['http']}"
        self.grpc_address = f"127.0.0.1:{ports['grpc']}"

    def running(self) -> Process | None:
        """Its process, also one of an earlier agent, with the ports in its mark; None where none runs."""
        return next((process for process in find_marked(self._home) if process.mark.role == ROLE), None)

    async def start(self, progress: Progress, timeout_seconds: float) -> int:
        """Adopts one that runs as wanted, else starts it; returns its pid once it can issue certificates.

        Raises WorkloadError with the end of its log when it ends or is not
        ready in time; one that was started here is then stopped again.
        """
        base = resource_path("consul/server.hcl").read_text(encoding="utf-8")
        machine = json.dumps(self._machine(), indent=2)
        # Another version has another path in the cache.
        digest = hashlib.sha256(f"{self._binary}\n{base}\n{machine}".encode()).hexdigest()
        found = self.running()
        if found is not None and found.mark.digest == digest:
            progress(f"Consul runs already (pid {found.pid}); adopting it")
            await self._until_ready(found.pid, progress, timeout_seconds)
            return found.pid
        if found is not None:
            progress("Consul runs with another configuration; starting it again")
            await stop(found, _STOP_SECONDS)
        folder = private_folder(self._home / "consul")
        private_folder(self._home / "logs")
        write_private(folder / "server.hcl", base)
        write_private(folder / "machine.json", machine)
        self._errors.unlink(missing_ok=True)
        pid = self._spawn(folder, digest)
        try:
            await self._until_ready(pid, progress, timeout_seconds)
            await self._deny_once(folder / "denied")
        except BaseException:
            await asyncio.shield(self.stop(_ABORT_SECONDS))
            raise
        return pid

    async def stop(self, grace_seconds: float = _STOP_SECONDS) -> None:
        """TERM, wait, KILL; its data is kept. Does nothing when it does not run."""
        while (found := self.running()) is not None:
            await stop(found, grace_seconds)

    async def _deny_once(self, done: Path) -> None:
        """Writes the intention that denies by default; only once ever, so that a person may delete it."""
        if await asyncio.to_thread(done.exists):
            return
        consul = Consul(self.address)
        try:
            await consul.deny_by_default()
        finally:
            await consul.close()
        write_private(done, "")

    def _spawn(self, folder: Path, digest: str) -> int:
        mark = Mark(self._mesh, str(self._home), ROLE, instance=ROLE, digest=digest, ports=self._ports)
        agent = [str(self._binary), "agent", "-config-file", str(folder / "server.hcl")]
        agent += ["-config-file", str(folder / "machine.json")]
        # It prints its whole log on stdout too, which would never be rotated. Output before
        # it has a log, and a crash, go to stderr.
        argv = ["/bin/sh", "-c", 'exec "$@" >/dev/null', "consul", *agent]
        return spawn(mark, argv, env={}, log=self._errors)

    def _machine(self) -> dict[str, object]:
        return {
            "node_name": f"mcpmesh-{self._mesh}",
            "data_dir": str(self._home / "consul" / "data"),
            "log_file": str(self._log),
            "log_rotate_bytes": _LOG_BYTES,
            "log_rotate_max_files": _LOG_FILES,
            "ports": {**self._ports, "dns": -1, "https": -1, "grpc_tls": -1, "serf_wan": -1},
        }

    @property
    def _log(self) -> Path:
        return self._home / "logs" / "consul.log"

    @property
    def _errors(self) -> Path:
        return self._home / "logs" / "consul.err.log"

    async def _until_ready(self, pid: int, progress: Progress, timeout_seconds: float) -> None:
        consul = Consul(self.address)
        ended = asyncio.create_task(wait_for_any_end([pid]), name="end of Consul")
        ready = asyncio.create_task(_ready(consul, progress), name="Consul's election")
        try:
            done, _ = await asyncio.wait({ended, ready}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            if ready in done:
                ready.result()
            elif ended in done:
                raise WorkloadError(
                    f"cannot start Consul: it ended at once; the end of its log:\n{self._last_log_lines()}"
                )
            else:
                raise WorkloadError(
                    f"cannot start Consul: it has not elected itself in {timeout_seconds:.0f} s "
                    f"(MCPMESH_CONSUL__START_SECONDS); the end of its log:\n{self._last_log_lines()}"
                )
        finally:
            ended.cancel()
            ready.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)
            await consul.close()

    def _last_log_lines(self) -> str:
        lines: deque[str] = deque(maxlen=_LAST_LINES)
        for path in (self._log, self._errors):
            if path.exists():
                lines.extend(path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:])
        return "\n".join(f"  {line}" for line in lines) or f"  (none; see {self._log.parent})"


async def _ready(consul: Consul, progress: Progress) -> None:
    """Returns once it has a leader and a certificate authority."""
    began = reported = time.monotonic()
    while True:
        try:
            if await consul.leader() and await consul.trust_domain():
                return
        except PeerError:
            pass  # it does not listen yet, or has no leader; that is what this waits for
        if time.monotonic() - reported > _PROGRESS_SECONDS:
            reported = time.monotonic()
            progress(f"waiting for Consul to elect itself: {reported - began:.0f} s")
        await asyncio.sleep(_POLL_SECONDS)
