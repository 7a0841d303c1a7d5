"""Processes that outlive the agent and are found by a mark in their environment.

The environment is the one label that the kernel keeps for a process. The mark
survives the agent's end, needs no file that could be stale, and is inherited:
what a server leaves behind can be told from other people's processes. Only
processes with our mark are ever signalled, through a pidfd, so a reused pid is
never hit.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from select import POLLIN, poll

from mcpmesh.errors import WorkloadError

VARIABLE = "MCPMESH_MARK"
_NEEDLE = f"{VARIABLE}=".encode()

# The variables that launched programs inherit: paths, language and terminal,
# nothing that could hold a secret.
_INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "TERM",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
)
_INHERITED_PREFIXES = ("LC_", "XDG_")

# PF_EXITING and PF_KTHREAD of the kernel's sched.h: such a process never has an environment.
_EXITING, _KERNEL = 0x4, 0x200000
# In the middle of an exec a process has neither environment nor arguments. That
# takes microseconds, but a machine under load may pause it there.
_EXEC_TRIES = 50
_LAST_TRIES = 2
_EXEC_PAUSE_SECONDS = 0.001

# Our own children, to be reaped; those of an earlier agent belong to init.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Mark:
    """What a process is: its mesh, `role`, instance, service, digest and ports.

    `home` distinguishes meshes of the same name. `drain` is how long (seconds) its calls may take to finish once its
    catalog is gone.
    """

    mesh: str
    home: str
    role: str
    instance: str = ""
    service: str = ""
    digest: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    drain: float = 10.0

    def dump(self) -> str:
        """The mark as text, for the environment."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """The mark in `text`; None where it is none of ours."""
        try:
            return cls(**{key: value for key, value in json.loads(text).items() if key in cls.__dataclass_fields__})
        except (ValueError, TypeError, AttributeError):
            return None


@dataclass(frozen=True)
class Process:
    """A live process and its mark.

    The mesh reaches it at `host`. What is for the agent alone (a shim's own
    pages, an Envoy's admin address) is at `private_host`. Both are loopback
    for the processes of this machine.
    """

    pid: int
    mark: Mark
    host: str = "127.0.0.1"
    private_host: str = "127.0.0.1"

    def private_address(self, port: str) -> str:
        """The address "host:port" of that port of its mark, for the agent."""
        return f"{self.private_host}:{self.mark.ports[port]}"


def base_environment() -> dict[str, str]:
    """The part of our environment that launched programs inherit."""
    return {k: v for k, v in os.environ.items() if k in _INHERITED or k.startswith(_INHERITED_PREFIXES)}


def spawn(
    mark: Mark,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    cwd: Path | None = None,
    stdin: bytes | None = None,
) -> int:
    """Starts `argv` in a session of its own, output appended to `log` (0600); returns its pid.

    `env` is added to `base_environment()`; `stdin` is passed in memory, never
    in a file. Raises WorkloadError when it cannot start.
    """
    source = os.memfd_create("stdin")
    try:
        os.write(source, stdin or b"")
        os.lseek(source, 0, os.SEEK_SET)
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sink = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            child = subprocess.Popen(
                list(argv),
                stdin=source,
                stdout=sink,
                stderr=sink,
                cwd=cwd,
                env={**base_environment(), **env, VARIABLE: mark.dump()},
                start_new_session=True,
            )
        except OSError as error:
            raise WorkloadError(f"cannot start {argv[0]!r}: {error.strerror or error}") from error
        finally:
            os.close(sink)
    finally:
        os.close(source)
    _children[child.pid] = child
    return child.pid


def reap() -> None:
    """Reaps children that have ended, so that none stays a zombie."""
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            del _children[pid]


def find_marked(home: Path | None = None) -> list[Process]:
    """Every live process of this user with a mark (of the mesh at `home`, where given)."""
    reap()
    wanted = None if home is None else str(home)
    return [process for process in _scan() if wanted is None or process.mark.home == wanted]


def _scan() -> Iterator[Process]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            yield from _scan_one(int(entry.name))


def is_alive(process: Process) -> bool:
    """Whether that process (not another one of its pid) still runs."""
    reap()
    return any(found == process for found in _scan_one(process.pid))


def _scan_one(pid: int) -> Iterator[Process]:
    environment = _environment(pid)
    if _NEEDLE not in environment:
        return
    for item in environment.split(b"\0"):
        if item.startswith(_NEEDLE) and (mark := Mark.parse(item[len(_NEEDLE) :].decode(errors="replace"))):
            yield Process(pid, mark)


def _environment(pid: int) -> bytes:
    """The environment of a process; b"" where it is another user's, or gone."""
    folder = f"/proc/{pid}"
    with suppress(OSError):
        for attempt in range(_EXEC_TRIES):
            if environment := Path(folder, "environ").read_bytes():
                return environment
            # Arguments appear an instant before the environment; a process that has only those has no environment.
            arguments = Path(folder, "cmdline").read_bytes()
            if (arguments and attempt >= _LAST_TRIES) or not _may_get_one(folder):
                break
            time.sleep(_EXEC_PAUSE_SECONDS)
    return b""


def _may_get_one(folder: str) -> bool:
    """Whether a process without an environment may be in an exec: it is neither ending nor a kernel thread."""
    # proc(5): after the name come the state, five numbers, and the flags.
    state, *fields = Path(folder, "stat").read_text().rpartition(")")[2].split()
    return state not in "ZX" and not int(fields[5]) & (_EXITING | _KERNEL)


async def stop(process: Process, grace_seconds: float) -> bool:
    """TERM, wait `grace_seconds`, KILL (its group too, when it leads one). True when TERM was enough.

    Returns at once when it has ended already.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return True
    try:
        if not is_alive(process):
            return True
        _signal(process.pid, handle, signal.SIGTERM)
        if await _ended(handle, grace_seconds):
            return True
        _signal(process.pid, handle, signal.SIGKILL)
        await _ended(handle, 10.0)
        return False
    finally:
        os.close(handle)
        reap()


def _signal(pid: int, handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
        if number is signal.SIGKILL and os.getpgid(pid) == pid:
            os.killpg(pid, number)
    except OSError:  # it ended just before the signal
        return


async def _ended(handle: int, seconds: float) -> bool:
    """Waits until the process of this pidfd has ended; False after `seconds`."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    except TimeoutError:
        watch = poll()
        watch.register(handle, POLLIN)
        return bool(watch.poll(0))
    finally:
        loop.remove_reader(handle)
    return True


async def wait_for_any_end(pids: Sequence[int]) -> None:
    """Returns when one of `pids` ends or has ended; waits for ever when there are none."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    handles: list[int] = []
    try:
        for pid in pids:
            try:
                handle = os.pidfd_open(pid)
            except OSError:
                return
            handles.append(handle)
            loop.add_reader(handle, ended.set)
        await ended.wait()
    finally:
        for handle in handles:
            loop.remove_reader(handle)
            os.close(handle)
