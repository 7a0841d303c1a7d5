"""Which process is the parent of which, and the state of each (proc(5): /proc/PID/stat)."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Node:
    """One process: its parent's pid, its short name and the letter of its state ("T": stopped by a signal)."""

    parent: int
    name: str
    state: str


@dataclass(frozen=True)
class ProcessTree:
    """All processes at one moment, by pid."""

    nodes: Mapping[int, Node]

    def name(self, pid: int) -> str:
        """The short name of a process; "gone" where it has ended."""
        node = self.nodes.get(pid)
        return node.name if node else "gone"

    def parent(self, pid: int) -> int:
        """The pid of its parent; 0 where the process has ended."""
        node = self.nodes.get(pid)
        return node.parent if node else 0

    def is_stopped(self, pid: int) -> bool:
        """Whether a signal (SIGSTOP, a debugger) holds the process."""
        node = self.nodes.get(pid)
        return node is not None and node.state in "tT"

    def nearest(self, pid: int, among: Collection[int]) -> int | None:
        """`pid` itself or its nearest ancestor that is in `among`; None without one. Init never counts."""
        visited: set[int] = set()
        while pid > 1 and pid not in visited:
            if pid in among:
                return pid
            visited.add(pid)
            pid = self.parent(pid)
        return None


def read_tree(proc: Path = Path("/proc")) -> ProcessTree:
    """The processes of now. Never raises for a process that ends meanwhile."""
    nodes: dict[int, Node] = {}
    for entry in os.scandir(proc):
        if entry.name.isdigit():
            try:
                text = Path(entry.path, "stat").read_bytes().decode(errors="replace")
            except OSError:
                continue
            nodes[int(entry.name)] = parse_stat(text)
    return ProcessTree(nodes)


def parse_stat(text: str) -> Node:
    """The process in the text of a /proc/PID/stat; its name may hold spaces and parentheses."""
    head, _, tail = text.rpartition(")")
    state, parent = tail.split()[:2]
    return Node(int(parent), head.partition("(")[2], state)
