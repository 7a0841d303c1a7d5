"""One run of these tests at a time on a machine, without leftovers of an earlier one that was interrupted.

Such a run leaves containers that Docker starts again with itself, networks whose
addresses are then taken, and names that a later process of the same number uses.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.composed import docker

# The labels of compose, and of the agent's containers.
_PROJECT, _OWNER = "com.docker.compose.project", "mcpmesh.owner"
# The projects of these tests, and the home of an agent without a project.
_PROJECTS, _FOLDER = ("mcpmesh-e2e-", "mcpmesh-checkout-"), "/pytest-of-"
_NETWORK = "mcpmesh-test-"


@contextmanager
def alone() -> Iterator[None]:
    """Waits for the end of another run; the kernel releases the lock of a killed one."""
    path = Path(tempfile.gettempdir(), f"mcpmesh-test-docker-{os.getuid()}.lock")
    with path.open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        _sweep()
        yield


def _sweep() -> None:
    # An agent among them may start another container meanwhile.
    for _ in range(3):
        for name in _left("ps", "--all"):
            docker("rm", "--force", "--volumes", name, check=False)
    for name in _left("network", "ls"):
        docker("network", "rm", name, check=False)
    for name in _left("volume", "ls"):
        docker("volume", "rm", name, check=False)


def _left(*words: str) -> list[str]:
    found = []
    for line in docker(*words, "--format", "{{json .}}").splitlines():
        one = json.loads(line)
        labels = dict(pair.partition("=")[::2] for pair in one["Labels"].split(","))
        name = one.get("ID") or one["Name"]
        ours = labels.get(_PROJECT, "").startswith(_PROJECTS) or labels.get(_OWNER, "").startswith(_PROJECTS)
        if ours or _FOLDER in labels.get(_OWNER, "") or one.get("Name", "").startswith(_NETWORK):
            found.append(name)
    return found
