"""Stops and starts the Docker Engine of the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.e2e.composed import until
from tests.support import guard

# The log of an engine that tests/e2e/machine/engine starts.
_FOLDER = Path(os.environ.get("MCPMESH_TEST_ENGINE", "/tmp/mcpmesh-test-engine"))

# Before it ends, it waits for all containers to end.
_SECONDS = 180.0


def restart() -> None:
    """Stops the engine in order and starts it again with the same arguments; returns when it answers."""
    if shutil.which("systemctl") and Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "restart", "docker"], check=True, timeout=_SECONDS)
    else:
        pid, argv = _running()
        os.kill(pid, signal.SIGTERM)
        until(lambda: _ended(pid), "the engine's end", _SECONDS)
        _FOLDER.mkdir(exist_ok=True)
        with (_FOLDER / "log").open("ab") as log:
            # Without the mark of the tests' processes: the engine outlives the tests.
            environment = {key: value for key, value in os.environ.items() if key != guard.VARIABLE}
            subprocess.run(
                ["setsid", "--fork", *argv],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )
    until(_answers, "an engine that answers", _SECONDS)


def _running() -> tuple[int, list[str]]:
    """The dockerd of this machine, by its program: a pid file may be that of an ended one."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_text() == "dockerd\n":
                words = (entry / "cmdline").read_bytes().rstrip(b"\0")
                # A zombie has none.
                if words:
                    return int(entry.name), words.decode().split("\0")
    raise AssertionError("Docker answers, and no dockerd runs here")


def _ended(pid: int) -> bool:
    """Whether that process has ended, or is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _answers() -> bool:
    return subprocess.run(["docker", "info"], capture_output=True).returncode == 0
