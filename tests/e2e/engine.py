"""The Docker Engine under the tests, to be stopped and started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.e2e.composed import until
from tests.support import guard

# Where tests/e2e/machine/engine keeps the log of one that it starts.
_FOLDER = Path(os.environ.get("MCPMESH_TEST_ENGINE", "/tmp/mcpmesh-test-engine"))

# It waits for all containers to end before it does.
_SECONDS = 180.0


def restart() -> None:
    """Stops it in order and starts it again as it was; returns when it answers."""
    if shutil.which("systemctl") and Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "restart", "docker"], check=True, timeout=_SECONDS)
    else:
        pid, argv = _running()
        os.kill(pid, signal.SIGTERM)
        until(lambda: _ended(pid), "the engine's end", _SECONDS)
        _FOLDER.mkdir(exist_ok=True)
        with (_FOLDER / "log").open("ab") as log:
            # Without the mark of what the tests start: it was there before them, and outlives them.
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
    """The dockerd of this machine, by what it is: a file with its number may be of one that is long gone."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_text() == "dockerd\n":
                words = (entry / "cmdline").read_bytes().rstrip(b"\0")
                # One that has ended and waits for its parent has none.
                if words:
                    return int(entry.name), words.decode().split("\0")
    raise AssertionError("Docker answers, and no dockerd runs here")


def _ended(pid: int) -> bool:
    """Whether that process is gone, or waits for nothing but its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _answers() -> bool:
    return subprocess.run(["docker", "info"], capture_output=True).returncode == 0
