"""CPU and memory of a bridge, read from /proc: its processes without the MCP servers behind it.

A server is recognized by its executable, which has another path for each start
of a bridge. So no process is counted for another bridge, and servers that
outlive their bridge are found.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MIB = 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """Memory in MiB. PSS divides pages that several processes share, such as an interpreter's, among them."""

    rss: float
    pss: float


def pids() -> Iterator[int]:
    """The ids of all processes."""
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def tree(root: int) -> set[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for pid in pids():
        with contextlib.suppress(OSError):
            parent = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(pid)
    found, stack = set(), [root]
    while stack:
        pid = stack.pop()
        found.add(pid)
        stack += children.get(pid, [])
    return found


def runs(pid: int, program: Path) -> bool:
    """Whether a process executes `program`."""
    try:
        return (PROC / str(pid) / "exe").readlink() == program
    except OSError:
        return False


def left(program: Path) -> set[int]:
    """Processes that execute `program`, or name it in their command line, as a shell around it does."""
    found = set()
    for pid in pids():
        with contextlib.suppress(OSError):
            if runs(pid, program) or str(program).encode() in (PROC / str(pid) / "cmdline").read_bytes():
                found.add(pid)
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads so far; 0 for a process that is gone."""
    # The clock id of another process, as clock_getcpuclockid(3) builds it. It is exact, while /proc counts ticks.
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def memory(pids: set[int]) -> Memory:
    """The sum over these processes."""
    rss = pss = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name == "Rss":
                    rss += int(rest.split()[0])
                elif name == "Pss":
                    pss += int(rest.split()[0])
    return Memory(rss / 1024, pss / 1024)


def status_mib(pid: int, name: str) -> float:
    """A value of /proc/PID/status that is given in kB."""
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
    return 0.0


def forget_peak(pids: set[int]) -> float:
    """Reset the memory peaks of these processes; returns their resident memory now, in MiB."""
    for pid in pids:
        with contextlib.suppress(OSError):
            (PROC / str(pid) / "clear_refs").write_text("5")
    return sum(status_mib(pid, "VmRSS") for pid in pids)


def peak(pids: set[int]) -> float:
    """The sum of their memory peaks since `forget_peak`, in MiB."""
    return sum(status_mib(pid, "VmHWM") for pid in pids)


def ended(pid: int) -> bool:
    """Whether the process is gone or waits to be reaped."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def send(pid: int, number: int) -> None:
    """Signal a process; it may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
