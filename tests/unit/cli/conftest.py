from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, TextIO

import pytest
from tests.unit.api.conftest import TIMING
from tests.unit.api.fake_operations import FakeOperations
from tests.unit.cli import command_server
from typer.testing import CliRunner, Result

from mcpmesh.api import agent_lock, agent_record
from mcpmesh.api import app as api
from mcpmesh.api.server import serve
from mcpmesh.cli.app import app
from mcpmesh.cli.clock import Clock
from mcpmesh.cli.invocation import Common

# A machine may stand still for a while; what takes longer does not happen.
SECONDS = 90.0
CATALOG = "version: 1\nservices:\n  files:\n    command: cat\n"
# Looks often; its bounds are real.
EAGER = Clock(poll_speed=20.0)
# For tests that wait until a bound of seconds is over.
FAST = Clock(speed=50.0, poll_speed=20.0)


class Agent:
    """A fake agent in a thread of its own, found as a real one is: by its files in the home folder."""

    def __init__(self, home: Path) -> None:
        self.operations = FakeOperations()
        self._home = home
        self._listens = threading.Event()
        self._keep_files = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="fake agent")
        self._thread.start()
        assert self._listens.wait(SECONDS)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs `work` in the agent's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def die(self) -> None:
        """Ends it as a kill would: its files stay."""
        self._keep_files = True
        self.stop()

    def stop(self) -> None:
        """Ends it in order."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.operations.gone.set)
            self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.operations.gone = asyncio.Event()
        with agent_lock.hold(self._home):
            token = agent_record.create_token(self._home)

            def listening(address: str) -> None:
                agent_record.write(self._home, agent_record.AgentRecord(os.getpid(), address, time.time(), "0.1.0"))
                self._listens.set()

            application = api.create(self.operations, token, name=self._home.name, timing=TIMING)
            server = asyncio.create_task(serve(application, "127.0.0.1", 0, listening))
            await self.operations.gone.wait()
            server.cancel()
            with suppress(asyncio.CancelledError):
                await server
            if not self._keep_files:
                agent_record.remove(self._home)


class Command:
    """A running command in a process of its own; a test that fails does not wait for its end."""

    def __init__(self, connection: socket.socket, stdout: TextIO | None, stderr: TextIO | None) -> None:
        self._connection = connection
        self._code: int | None = None
        self._pid = int(connection.recv(32))
        self.stdout = stdout
        self.stderr = stderr

    def send_signal(self, number: int) -> None:
        os.kill(self._pid, number)

    def kill(self) -> None:
        if self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self.wait(SECONDS)

    def wait(self, seconds: float) -> int:
        """Its exit code, once it has ended."""
        if self._code is None:
            self._connection.settimeout(seconds)
            self._code = int(self._connection.recv(32))
            self._connection.close()
        return self._code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.kill()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait(SECONDS)


class CommandServer:
    """Starts commands (see `command_server`); itself started with the first one."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "commands"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, request: dict[str, Any], stdin: int | None, stdout: int | None, stderr: int | None) -> Command:
        """Starts a command; None is /dev/null for stdin, a new pipe for stdout, and the same as stdout for stderr."""
        if self._process is None:
            argv = [sys.executable, "-P", command_server.__file__, str(self._path)]
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
            until(self._path.exists)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        until(lambda: connection.connect_ex(str(self._path)) == 0)
        null = os.open(os.devnull, os.O_RDONLY)
        out, out_reader = (stdout, None) if stdout is not None else _pipe()
        err, err_reader = (out, None) if stderr is None else _pipe() if stderr == subprocess.PIPE else (stderr, None)
        handles = [null if stdin is None else stdin, out, err]
        socket.send_fds(connection, [json.dumps(request).encode()], handles)
        command = Command(connection, out_reader, err_reader)
        os.close(null)
        if out_reader is not None:
            os.close(out)
        if err_reader is not None:
            os.close(err)
        return command

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()


def _pipe() -> tuple[int, TextIO]:
    reader, writer = os.pipe()
    return writer, open(reader, encoding="utf-8")


class Mesh:
    """The command line for a state folder of its own."""

    def __init__(self, folder: Path, server: CommandServer) -> None:
        self.folder = folder
        self.home = folder / "state" / "default"
        self.catalog = folder / "mesh.yaml"
        self.catalog.write_text(CATALOG)
        self.environment = {"MCPMESH_STATE_DIR": str(folder / "state"), "COLUMNS": "80"}
        self._server = server

    def run(self, *arguments: str, stdin: str | None = None, clock: Clock = EAGER, **environment: str) -> Result:
        """Runs a command in this process."""
        return CliRunner(env={**self.environment, **environment}).invoke(
            app,
            list(arguments),
            input=stdin,
            prog_name="mcpmesh",
            catch_exceptions=False,
            obj=Common(clock=clock),
        )

    def start(
        self,
        *arguments: str,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        clock: Clock = EAGER,
        **environment: str,
    ) -> Command:
        """Starts a command in a process of its own, in the folder of the mesh."""
        request = {
            "arguments": arguments,
            "cwd": str(self.folder),
            "environment": {**os.environ, **self.environment, **environment},
            "clock": asdict(clock),
        }
        return self._server.start(request, stdin, stdout, stderr)


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    server = CommandServer(tmp_path_factory.mktemp("commands"))
    yield server
    server.close()


@pytest.fixture
def mesh(tmp_path: Path, commands: CommandServer) -> Mesh:
    return Mesh(tmp_path, commands)


@pytest.fixture
def agent(mesh: Mesh) -> Iterator[Agent]:
    agent = Agent(mesh.home)
    yield agent
    agent.stop()


def until(condition: Callable[[], bool]) -> None:
    """Waits for the condition, within a bound."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def read_until(command: Command, words: str) -> str:
    """The output of the command, up to the line with `words`."""
    assert command.stdout is not None
    text = ""
    for line in command.stdout:
        text += line
        if words in line:
            return text
    raise AssertionError(f"it ended without {words!r}:\n{text}")
