"""What containers say, copied into the mesh's logs while they say it.

So `mcpmesh logs` reads files wherever instances run, and the last words of a
container outlive it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from mcpmesh.errors import MeshError
from mcpmesh.workload.containers.engine import Engine

# What was said before the end comes within moments of it, on a loaded machine a few of them.
_END_SECONDS = 10.0


class Pump:
    """One thread for each container that runs; each ends with its container, or with the program."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads: dict[str, threading.Thread] = {}

    def begin(self, id_: str, log: Path) -> None:
        """Copies what the container `id_` says to `log` (0600), from where an earlier agent left off."""
        if id_ not in self._threads:
            thread = threading.Thread(target=self._copy, args=(id_, log), name=f"logs {log.stem}", daemon=True)
            self._threads[id_] = thread
            thread.start()

    def end(self, id_: str, log: Path) -> None:
        """Returns when all that an ended container said is in `log`."""
        self.begin(id_, log)
        if thread := self._threads.pop(id_, None):
            thread.join(_END_SECONDS)

    def _copy(self, id_: str, log: Path) -> None:
        try:
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            since = log.stat().st_mtime if log.exists() else 0.0
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with os.fdopen(os.open(log, flags, 0o600), "ab", buffering=0) as sink:
                for said in self._engine.said(id_, since):
                    sink.write(said)
        except (MeshError, OSError):
            return  # Docker is away, or the disk full: whoever looks for the container next begins again
        finally:
            self._threads.pop(id_, None)
