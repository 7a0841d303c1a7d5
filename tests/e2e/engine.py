"""The Docker Engine under the tests, to be stopped and started."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.e2e.composed import until

# Where tests/e2e/machine/engine keeps the one that it started.
_FOLDER = Path(os.environ.get("MCPMESH_TEST_ENGINE", "/tmp/mcpmesh-test-engine"))


def restart() -> None:
    """Stops it in order and starts it again; returns when it answers."""
    pid_file = _FOLDER / "pid"
    if not pid_file.exists():
        subprocess.run(["systemctl", "restart", "docker"], check=True, timeout=120)
    else:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{pid}").exists(), "the engine's end")
        with (_FOLDER / "log").open("ab") as log:
            argv = ["setsid", "--fork", "dockerd", "--pidfile", str(pid_file)]
            subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
    until(lambda: subprocess.run(["docker", "info"], capture_output=True).returncode == 0, "an engine that answers")
