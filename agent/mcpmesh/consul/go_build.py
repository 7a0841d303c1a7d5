"""Builds Consul with Go, from pinned modules only; an interrupted build leaves no process.

Go compares each module with the given go.sum, and changes neither that nor
go.mod. It runs in a process group of its own, which is ended as a whole after
a cancel or a time-out. With setpriv, Go also ends when this program is killed
with SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mcpmesh.errors import MeshError

MODULE = "github.com/hashicorp/consul"
TERM_SECONDS = 5.0

Progress = Callable[[str], None]


async def build(
    version: str, scratch: Path, progress: Progress, *, pins: Path, build_seconds: float, progress_seconds: float
) -> Path:
    """Builds the executable of Consul `version` in the folder `scratch`; returns its path.

    `pins` holds the go.mod and go.sum that pin the version and all that it needs.
    Raises MeshError where Go is missing, fails (with its last lines) or takes
    longer than `build_seconds`.
    """
    work, temporary, binary = scratch / "build", scratch / "tmp", scratch / "consul"
    work.mkdir()
    temporary.mkdir()
    for name in ("go.mod", "go.sum"):
        shutil.copy(pins / name, work)
    module = (work / "go.mod").read_text(encoding="utf-8")
    if not re.search(rf"(?m)^\s*(require\s+)?{re.escape(MODULE)} v{re.escape(version)}\b", module):
        raise MeshError(f"cannot build Consul {version}: {pins / 'go.mod'} pins another version")
    needed = re.search(r"(?m)^go (\S+)", module)
    wanted = f"install Go {needed[1] if needed else ''} or later (https://go.dev/dl) and put it on PATH"
    go = shutil.which("go")
    if go is None:
        raise MeshError(f"cannot build Consul {version}: there is no `go` on PATH; {wanted}")
    progress(f"building Consul {version} with Go, once for this machine; some 2,000 packages, 10 minutes on two cores")
    # fmt: off
    process = await asyncio.create_subprocess_exec(
        *_tied_to_parent(), go, "build", "-v", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", binary, MODULE,
        cwd=work,
        env=os.environ | {"CGO_ENABLED": "0", "GOWORK": "off", "GOTMPDIR": str(temporary)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    # fmt: on
    try:
        async with asyncio.timeout(build_seconds):
            log = await _follow(process, progress, progress_seconds)
    except TimeoutError as error:
        raise MeshError(f"cannot build Consul {version}: not done in {build_seconds:.0f} s") from error
    finally:
        await end_process_group(process)
    if process.returncode != 0:
        output = "\n    ".join(log.tail) or "no output"
        raise MeshError(f"cannot build Consul {version}: go ended with {process.returncode}; {wanted}:\n    {output}")
    return binary


async def end_process_group(process: asyncio.subprocess.Process) -> None:
    """Ends the process group if it still runs: TERM, then KILL, also when cancelled meanwhile."""
    if process.returncode is not None:
        return
    try:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), TERM_SECONDS)
    finally:
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
    await process.wait()


@dataclass
class _BuildLog:
    """The progress of `go build -v`, and its last lines of other output."""

    modules: int = 0
    packages: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=8))

    def add(self, line: str) -> None:
        if line.startswith("go: downloading "):
            self.modules += 1
        elif re.fullmatch(r"[\w./~+-]+", line):
            self.packages += 1
        elif line.strip():
            self.tail.append(line)


def _tied_to_parent() -> tuple[str, ...]:
    """The prefix with which a command ends when we are killed: util-linux's setpriv, where that is installed."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()


async def _follow(process: asyncio.subprocess.Process, progress: Progress, progress_seconds: float) -> _BuildLog:
    assert process.stderr is not None
    stderr, log, began = process.stderr, _BuildLog(), time.monotonic()

    async def read() -> None:
        async for line in stderr:
            log.add(line.decode(errors="replace").rstrip())
        await process.wait()

    reading = asyncio.create_task(read(), name="go build output")
    try:
        while not reading.done():
            await asyncio.wait({reading}, timeout=progress_seconds)
            minutes, seconds = divmod(int(time.monotonic() - began), 60)
            progress(
                f"building Consul: {minutes}:{seconds:02d} elapsed, "
                f"{log.modules} modules downloaded, {log.packages} packages compiled"
            )
        await reading
    finally:
        reading.cancel()
    return log


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
