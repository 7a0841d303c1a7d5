"""Consul built with Go: from the pinned modules alone, and cut short it leaves no process.

Go compares each module with the given go.sum, and changes neither that nor the
go.mod. It runs in a process group of its own, which a cancel or the end of its
time ends as a whole. Where setpriv is there, Go is also told to end when this
program is killed -9.
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
    """The executable of Consul `version`, built somewhere in the folder `scratch`.

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
        *_mortal(), go, "build", "-v", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", binary, MODULE,
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
            seen = await _follow(process, progress, progress_seconds)
    except TimeoutError as error:
        raise MeshError(f"cannot build Consul {version}: not done in {build_seconds:.0f} s") from error
    finally:
        await stop(process)
    if process.returncode != 0:
        said = "\n    ".join(seen.tail) or "it said nothing"
        raise MeshError(f"cannot build Consul {version}: go ended with {process.returncode}; {wanted}:\n    {said}")
    return binary


async def stop(process: asyncio.subprocess.Process) -> None:
    """Ends the process group where it still runs: TERM, then KILL, also when cancelled meanwhile."""
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
class _Seen:
    """What `go build -v` has said so far."""

    modules: int = 0
    packages: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=8))

    def line(self, line: str) -> None:
        if line.startswith("go: downloading "):
            self.modules += 1
        elif re.fullmatch(r"[\w./~+-]+", line):
            self.packages += 1
        elif line.strip():
            self.tail.append(line)


def _mortal() -> tuple[str, ...]:
    """What makes a command end with us even where we are killed -9: util-linux's setpriv, where it is there."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()


async def _follow(process: asyncio.subprocess.Process, progress: Progress, every: float) -> _Seen:
    assert process.stderr is not None
    stderr, seen, began = process.stderr, _Seen(), time.monotonic()

    async def read() -> None:
        async for line in stderr:
            seen.line(line.decode(errors="replace").rstrip())
        await process.wait()

    reading = asyncio.create_task(read(), name="go build output")
    try:
        while not reading.done():
            await asyncio.wait({reading}, timeout=every)
            minutes, seconds = divmod(int(time.monotonic() - began), 60)
            progress(
                f"building Consul: {minutes}:{seconds:02d} elapsed, "
                f"{seen.modules} modules downloaded, {seen.packages} packages compiled"
            )
        await reading
    finally:
        reading.cancel()
    return seen


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
