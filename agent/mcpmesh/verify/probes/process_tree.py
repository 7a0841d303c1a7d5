"""Which process came from which, and in what state the kernel has it (proc(5): /proc/PID/stat)."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kin:
    """One process: its parent, its short name and its state's letter ("T" is stopped by a signal)."""

    parent: int
    name: str
    state: str


@dataclass(frozen=True)
class Tree:
    """All processes at one moment."""

    kin: Mapping[int, Kin]

    def name(self, pid: int) -> str:
        """Its short name; "gone" where it has ended."""
        found = self.kin.get(pid)
        return found.name if found else "gone"

    def stopped(self, pid: int) -> bool:
        """Whether a signal (SIGSTOP, a debugger) holds it."""
        found = self.kin.get(pid)
        return found is not None and found.state in "tT"

    def ancestor_in(self, pid: int, among: Collection[int]) -> int | None:
        """The nearest of `among` that `pid` is or came from."""
        seen: set[int] = set()
        while pid > 1 and pid not in seen:
            if pid in among:
                return pid
            seen.add(pid)
            found = self.kin.get(pid)
            pid = found.parent if found else 0
        return None


def look(proc: Path = Path("/proc")) -> Tree:
    """One look; never raises for processes that end meanwhile."""
    kin: dict[int, Kin] = {}
    for entry in os.scandir(proc):
        if entry.name.isdigit():
            try:
                text = Path(entry.path, "stat").read_bytes().decode(errors="replace")
            except OSError:
                continue
            kin[int(entry.name)] = parse(text)
    return Tree(kin)


def parse(stat: str) -> Kin:
    """From the text of /proc/PID/stat; the name may itself hold spaces and parentheses."""
    head, _, tail = stat.rpartition(")")
    state, parent = tail.split()[:2]
    return Kin(int(parent), head.partition("(")[2], state)
