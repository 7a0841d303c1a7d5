from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.unit.api.fake_operations import StandIn
from typer.testing import CliRunner, Result

from mcpmesh.api import agent_record
from mcpmesh.api import app as api
from mcpmesh.api.server import serve
from mcpmesh.cli.app import app

# A machine may stand still for a while; what takes longer does not happen.
SECONDS = 90.0
CATALOG = "version: 1\nservices:\n  files:\n    command: cat\n"


class Agent:
    """A stand-in that lives as an agent does: in a thread of its own, found by what it leaves at home."""

    def __init__(self, home: Path) -> None:
        self.standin = StandIn()
        self._home = home
        self._up = threading.Event()
        self._die = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="stand-in")
        self._thread.start()
        assert self._up.wait(SECONDS)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs `work` where the stand-in lives."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def die(self) -> None:
        """Ends it as a kill would: nothing is taken back."""
        self._die = True
        self.leave()

    def leave(self) -> None:
        """Ends it in order."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.standin.gone.set)
            self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.standin.gone = asyncio.Event()
        with agent_record.held(self._home):
            token = agent_record.mint_token(self._home)

            def listening(address: str) -> None:
                agent_record.announce(self._home, agent_record.Presence(os.getpid(), address, time.time(), "0.1.0"))
                self._up.set()

            name = self._home.name
            server = asyncio.create_task(serve(api.create(self.standin, token, name=name), "127.0.0.1", 0, listening))
            await self.standin.gone.wait()
            server.cancel()
            with suppress(asyncio.CancelledError):
                await server
            if not self._die:
                agent_record.withdraw(self._home)


class Command(subprocess.Popen[str]):
    """A command at work; a test that fails does not wait for its end."""

    def __exit__(self, kind: type[BaseException] | None, *more: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *more)


class Mesh:
    """The command line for a state folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "state" / "default"
        self.catalog = folder / "mesh.yaml"
        self.catalog.write_text(CATALOG)
        self.environment = {"MCPMESH_STATE_DIR": str(folder / "state"), "COLUMNS": "80"}

    def run(self, *arguments: str, stdin: str | None = None, **environment: str) -> Result:
        """One command in this process."""
        return CliRunner(env={**self.environment, **environment}).invoke(
            app, list(arguments), input=stdin, prog_name="mcpmesh", catch_exceptions=False
        )

    def start(self, *arguments: str, **how: Any) -> Command:
        """One command in a process of its own."""
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, **how}
        environment = {**os.environ, **self.environment, "PYTHONUNBUFFERED": "1", **how.pop("env", {})}
        return Command(
            [sys.executable, "-m", "mcpmesh", *arguments], cwd=self.folder, env=environment, text=True, **how
        )


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path)


@pytest.fixture
def agent(mesh: Mesh) -> Iterator[Agent]:
    agent = Agent(mesh.home)
    yield agent
    agent.leave()


def until(condition: Callable[[], bool]) -> None:
    """Waits for the condition, within a bound."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What the process says, up to the line with `words`."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"it ended without saying {words!r}:\n{said}")
