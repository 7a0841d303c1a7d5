"""Processes that outlive us, found again by a mark in their environment.

A mark is the one label that the kernel keeps for a process: it survives our
death, needs no file that could be stale, and is inherited, so whatever a
server leaves behind can be told from other people's processes. Only processes
with our mark are ever signalled, through a pidfd, so a reused pid is never hit.
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

# What a launched program may see of our own environment: where things are and
# how to speak to the person, nothing that could hold a secret.
_PASSED_ON = (
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
_PASSED_ON_PREFIXES = ("LC_", "XDG_")

# PF_EXITING and PF_KTHREAD of the kernel's sched.h: these have no environment for good.
_EXITING, _KERNEL = 0x4, 0x200000
# A process in the middle of an exec has neither; that takes microseconds, but a
# machine under load may stop it there.
_EXEC_TRIES = 50
_LAST_TRIES = 2
_EXEC_PAUSE_SECONDS = 0.001

# Our own children, so that they can be reaped; those of an earlier agent are init's.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Mark:
    """Whose process it is. `home` tells apart two meshes of one name; `role` is what it does there.

    `drain` is how long (seconds) its calls may take to finish, when nobody has its catalog any more.
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
        """The mark as it stands in an environment."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """The mark in `text`, None where it is not one of ours."""
        try:
            return cls(**{key: value for key, value in json.loads(text).items() if key in cls.__dataclass_fields__})
        except (ValueError, TypeError, AttributeError):
            return None


@dataclass(frozen=True)
class Process:
    """A live process and its mark.

    Others of the mesh reach it at `host`; what only its agent may ask (a shim's
    own pages, an Envoy's admin address) is at `inner`. Both are loopback here.
    """

    pid: int
    mark: Mark
    host: str = "127.0.0.1"
    private_host: str = "127.0.0.1"

    def private_address(self, port: str) -> str:
        """Where that port of its mark is asked: "host:port"."""
        return f"{self.private_host}:{self.mark.ports[port]}"


def base_environment() -> dict[str, str]:
    """The part of our environment that launched programs may see."""
    return {k: v for k, v in os.environ.items() if k in _PASSED_ON or k.startswith(_PASSED_ON_PREFIXES)}


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

    `env` comes on top of `base_environment()`; `stdin` is handed over in
    memory, never through a file. Raises WorkloadError when it cannot start.
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
    """Collects children that ended, so that none stays a zombie."""
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
    """Whether that very process (not another of its pid) still runs."""
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
    """What stands in the environment of a process; nothing where it is another user's, or gone."""
    folder = f"/proc/{pid}"
    with suppress(OSError):
        for attempt in range(_EXEC_TRIES):
            if environment := Path(folder, "environ").read_bytes():
                return environment
            # Arguments come an instant before the environment; later than that, there is none.
            named = Path(folder, "cmdline").read_bytes()
            if (named and attempt >= _LAST_TRIES) or not _may_get_one(folder):
                break
            time.sleep(_EXEC_PAUSE_SECONDS)
    return b""


def _may_get_one(folder: str) -> bool:
    """Whether a process without an environment may be in an exec: it is neither ending nor the kernel's."""
    # proc(5): behind the name come the state, five numbers, and the flags.
    state, *fields = Path(folder, "stat").read_text().rpartition(")")[2].split()
    return state not in "ZX" and not int(fields[5]) & (_EXITING | _KERNEL)


async def stop(process: Process, grace_seconds: float) -> bool:
    """TERM, wait `grace_seconds`, KILL; the group too when it leads one. True when it went by itself.

    Returns at once when it is gone already.
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
    except OSError:  # it ended between the look and the signal
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
    """Returns when one of `pids` ends (or is gone already); waits for ever when there are none."""
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
