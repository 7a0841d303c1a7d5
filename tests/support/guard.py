"""Ends what a process that runs tests has left behind: guard.py MARK, with a pipe from that process as its stdin.

A person's Ctrl-C leaves each of the processes that run tests side by side some
seconds, and a mesh takes longer to go down. What is ended is told on stderr:
tests that came to their end leave nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from mcpmesh.verify.probes import process_tree

# XDG_*: the agent and the shim pass these on to their children.
VARIABLE: Final = "XDG_MCPMESH_TEST_RUN"

_SECONDS = 20.0


def main(mark: str) -> None:
    """Waits for the end of stdin."""
    while os.read(0, 1):
        pass
    ended: dict[int, str] = {}
    end = time.monotonic() + _SECONDS
    # An agent among them may start another process meanwhile.
    while (left := _left(mark)) and time.monotonic() < end:
        ended |= left
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    if ended:
        names = ", ".join(f"{name} ({pid})" for pid, name in sorted(ended.items()))
        print(f"\ntests left {len(ended)} processes, which were ended: {names}", file=sys.stderr)


def _left(mark: str) -> dict[int, str]:
    """The processes with the mark and their descendants: an nginx clears its environment."""
    needle = f"{VARIABLE}={mark}\0".encode()
    tree = process_tree.read_tree()
    marked = {pid for pid in tree.nodes if pid != os.getpid() and needle in _environment(pid)}
    return {pid: tree.name(pid) for pid in tree.nodes if tree.nearest(pid, marked) is not None}


def _environment(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


if __name__ == "__main__":
    main(sys.argv[1])
