"""The process of our own Kong, from start to end.

It is found by the mark of the shell that runs it (kong/keep.sh), since the
nginx below that shell clears its environment. Should the shell alone be
killed, the rest is found by its working folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree, which

from mcpmesh.errors import SettingsError, WorkloadError
from mcpmesh.kit.marked_process import Mark, Process, spawn, stop
from mcpmesh.kit.packaged_files import resource_path
from mcpmesh.kit.private_files import private_folder
from mcpmesh.settings import KongSettings

ROLE = "kong"

# Its working folder below the mesh's; nothing else works there.
_PREFIX = "kong"

# nginx ends in milliseconds on a signal; a `kong start` that has just begun takes a second or two.
_STOP_SECONDS = 5.0
_LEFTOVER_SECONDS = 2.0
_POLL_SECONDS = 0.05
_LOG_TAIL_BYTES = 8192
_ERROR_WORDS = re.compile(r"\b(error|emerg|alert|crit)\b", re.I)
# The longest path in a sockaddr_un (unix(7)); Kong has sockets in its prefix.
_LONGEST_SOCKET_PATH = 107
_SOCKET = "sockets/we"


@dataclass(frozen=True)
class KongListeners:
    """Its addresses: the proxy for clients, and the Admin API on loopback."""

    host: str
    port: int
    admin_port: int

    @property
    def proxy(self) -> str:
        """The proxy's address as nginx writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def find_kong(configured: Path | None) -> Path | None:
    """The kong program: the configured one, else the one on PATH; None without either."""
    if configured is None:
        found = which("kong")
        return Path(found) if found else None
    if not configured.is_file() or not os.access(configured, os.X_OK):
        raise SettingsError(f"cannot find a program at {configured}; fix MCPMESH_KONG__BINARY")
    return configured


def environment(
    home: Path, listeners: KongListeners, settings: KongSettings, log: Path, *, root: bool
) -> dict[str, str]:
    """The settings of a Kong 3.9 without a database; pure."""
    found = {
        "KONG_DATABASE": "off",
        "KONG_DECLARATIVE_CONFIG": str(resource_path("kong/waiting.yml")),
        "KONG_NGINX_DAEMON": "off",
        "KONG_NGINX_WORKER_PROCESSES": str(settings.workers),
        "KONG_PROXY_LISTEN": listeners.proxy,
        "KONG_ADMIN_LISTEN": f"127.0.0.1:{listeners.admin_port}",
        # By default these are open to everybody, or conflict with the Kong of a second mesh.
        "KONG_ADMIN_GUI_LISTEN": "off",
        "KONG_STATUS_LISTEN": "off",
        "KONG_STREAM_LISTEN": "off",
        "KONG_ANONYMOUS_REPORTS": "off",
        "KONG_PROXY_ACCESS_LOG": str(log.with_suffix(".access.log")),
        "KONG_ADMIN_ACCESS_LOG": "off",
        "KONG_PROXY_ERROR_LOG": str(log),
        "KONG_ADMIN_ERROR_LOG": str(log),
        "KONG_PREFIX": str(home / _PREFIX),
    }
    if settings.traces_url:
        found |= {"KONG_TRACING_INSTRUMENTATIONS": "request,router,balancer", "KONG_TRACING_SAMPLING_RATE": "1"}
    if root:
        # Workers of another user could not read the mesh's private folder.
        found["KONG_NGINX_USER"] = "root root"
    return found


def digest(kong: Path | None, host: str, settings: KongSettings) -> str:
    """The digest of all that a running Kong can't change: with another digest it is started anew; pure."""
    # Its ports are in its mark, its plugins in its document. Tracing needs settings of the process.
    parts = [str(kong), host, str(settings.workers), str(bool(settings.traces_url))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def start(kong: Path, mark: Mark, listeners: KongListeners, settings: KongSettings) -> int:
    """Starts it; returns the pid of the shell that keeps its mark. Its output goes to the mesh's logs."""
    home = Path(mark.home)
    if len(str(home / _PREFIX / _SOCKET)) > _LONGEST_SOCKET_PATH:
        raise WorkloadError(
            f"cannot start Kong: the path of its sockets in {home / _PREFIX} is too long for the system; set a shorter "
            "MCPMESH_STATE_DIR"
        )
    prefix, log = private_folder(home / _PREFIX), log_of(home, mark.instance)
    private_folder(log.parent)
    for path in (log, log.with_suffix(".access.log")):
        path.touch(mode=0o600)
    env = environment(home, listeners, settings, log, root=os.getuid() == 0)
    argv = ["/bin/sh", str(resource_path("kong/keep.sh")), str(kong), str(prefix)]
    return spawn(mark, argv, env=env, log=log, cwd=prefix)


def log_of(home: Path, instance: str) -> Path:
    """The path of its log."""
    return home / "logs" / f"{instance}.{ROLE}.log"


def error_line_in(log: Path) -> str:
    """The last line with an error, else the last one: Kong ends each error message with advice on verbosity."""
    try:
        lines = log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").splitlines()
    except OSError:
        lines = []
    filled = [line.strip() for line in lines if line.strip()]
    errors = [line for line in filled if _ERROR_WORDS.search(line)]
    return (errors or filled or ["(none)"])[-1]


def drain(process: Process) -> None:
    """Makes Kong stop listening, finish the calls under way, and end."""
    with suppress(ProcessLookupError):
        os.kill(_master(Path(process.mark.home) / _PREFIX) or process.pid, signal.SIGQUIT)


async def end(process: Process) -> None:
    """TERM, then KILL, to it and everything that it started."""
    await stop(process, _STOP_SECONDS)
    await end_leftover(Path(process.mark.home))


async def end_leftover(home: Path) -> None:
    """Ends the processes of this mesh's Kong that outlived their shell; nothing else works in its prefix."""
    for number, seconds in ((signal.SIGTERM, _LEFTOVER_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
        for pid in _inside(home / _PREFIX):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        for _ in range(round(seconds / _POLL_SECONDS)):
            if not _inside(home / _PREFIX):
                return
            await asyncio.sleep(_POLL_SECONDS)


def _inside(prefix: Path) -> list[int]:
    """Processes of ours that work in `prefix` without a terminal (so a person's shell there is not one of them)."""
    found, folder = [], os.path.realpath(prefix)
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                if os.readlink(f"{entry.path}/cwd") == folder:  # noqa: PTH115 - for every process of the machine
                    # proc(5): after the name come the state, three numbers, and the terminal's.
                    state, *numbers = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                    if state not in "ZX" and numbers[3] == "0":
                        found.append(int(entry.name))
    return found


def remove_working_folder(home: Path) -> None:
    """Removes what Kong keeps for its next start: the document, and with it the keys of consumers."""
    rmtree(home / _PREFIX, ignore_errors=True)


def _master(prefix: Path) -> int | None:
    """The pid of the nginx master in `prefix`, if that process lives and has the prefix in its command line."""
    try:
        pid = int((prefix / "pids" / "nginx.pid").read_text().strip())
        title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (OSError, ValueError):
        return None
    # nginx writes its own title, with spaces where the kernel puts NULs.
    return pid if str(prefix) in title.replace("\0", " ").split() else None
