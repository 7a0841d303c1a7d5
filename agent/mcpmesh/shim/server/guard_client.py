"""The shim's side of the guard process: it starts servers below the guard, signals them, and learns of their exit."""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from mcpmesh.shim.config import Config
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.server import guard_process

PACKET_BYTES: Final = 4096


class SpawnError(Exception):
    """A server's program can't be started; the message is a sentence with the next step."""


class SpawnListener(Protocol):
    """Is told what happens to one server process."""

    def process_started(self, pid: int) -> None: ...
    def start_failed(self, error: OSError) -> None: ...
    def process_exited(self, status: int) -> None: ...


def server_environment(config: Config) -> dict[str, str]:
    """The shim's own environment without its MCPMESH_ variables, and the configured one on top."""
    inherited = {key: text for key, text in os.environ.items() if not key.startswith("MCPMESH_")}
    return {**inherited, **config.env}


def server_mark() -> dict[str, Any]:
    """The mark for a server's environment: the shim's own, with the role of a server and without ports."""
    try:
        mark = codec.decode(os.environ.get("MCPMESH_MARK", "{}").encode("utf-8", "surrogateescape"))
    except codec.Malformed:
        mark = {}
    if not isinstance(mark, dict):
        mark = {}
    mark.pop("ports", None)
    return {**mark, "role": "server"}


def find_program(command: str, environment: dict[str, str], cwd: str) -> str:
    """The absolute path of the program; raises SpawnError."""
    if not Path(cwd).is_dir():
        raise SpawnError(f'cannot start "{command}": its working directory {cwd} does not exist')
    if "/" in command:
        path = Path(cwd, command)
        if not path.exists():
            raise SpawnError(f'cannot start "{command}": there is no such file')
        if not os.access(path, os.X_OK) or path.is_dir():
            raise SpawnError(f'cannot start "{command}": it is not executable')
        return str(path)
    for directory in environment.get("PATH", os.defpath).split(os.pathsep):
        path = Path(cwd, directory, command)
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise SpawnError(f'cannot start "{command}": no such program on PATH; install it or give its full path')


class GuardClient:
    """Owns the guard process and the socket to it."""

    def __init__(self, config: Config, on_lost: Callable[[], None]) -> None:
        """`on_lost` is called once if the guard ends while it is needed."""
        self.config = config
        self.on_lost = on_lost
        self.pid = 0
        self._socket: socket.socket | None = None
        self._servers: dict[int, SpawnListener] = {}
        self._next_number = 1
        self._closing = False

    def launch(self) -> None:
        """Start the guard; raises SpawnError when the server's program can't be found."""
        assert self.config.command is not None
        environment = server_environment(self.config)
        mark = server_mark()
        spec: dict[str, Any] = {
            "command": find_program(self.config.command, environment, self.config.cwd),
            "args": list(self.config.args),
            "env": environment,
            "cwd": self.config.cwd,
            "mark": codec.encode(mark).decode()[:-1],
        }
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # In memory only, since the environment carries secrets.
        memory = os.memfd_create("mcpmesh-shim", os.MFD_CLOEXEC)
        try:
            os.write(memory, marshal.dumps(spec))
            os.lseek(memory, 0, os.SEEK_SET)
            guard_mark = codec.encode({**mark, "role": "guard"}).decode()
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(guard_process.__file__)],
                {"PATH": os.environ.get("PATH", os.defpath), "MCPMESH_MARK": guard_mark},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, memory, 0),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
                ],
                setsid=True,
            )
        finally:
            os.close(memory)
            theirs.close()
        ours.setblocking(False)
        guard_process.prctl(guard_process.PR_SET_CHILD_SUBREAPER, 1)
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._receive)

    def spawn(self, server: SpawnListener, stdin: int, stdout: int, stderr: int) -> int:
        """Start a server on these descriptors, and close them here; returns the server's number."""
        number = self._next_number
        self._next_number += 1
        self._servers[number] = server
        try:
            if self._socket is None:
                raise BrokenPipeError
            socket.send_fds(self._socket, [b"S %d" % number], [stdin, stdout, stderr])
        except OSError as error:
            asyncio.get_running_loop().call_soon(self._start_failed, number, error)
        finally:
            for fd in (stdin, stdout, stderr):
                os.close(fd)
        return number

    def terminate(self, number: int) -> None:
        """SIGTERM to the server's process group."""
        self._send(b"T %d" % number)

    def kill(self, number: int) -> None:
        """SIGKILL to the server and all its descendants."""
        self._send(b"K %d" % number)

    async def close(self) -> None:
        """End the guard, and with it everything below it; returns when all of it has exited."""
        self._closing = True
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self.pid:
            await asyncio.to_thread(_wait, self.pid)
            self.pid = 0
            kill_descendants()

    def _send(self, packet: bytes) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # _receive notices that the guard has ended
                self._socket.send(packet)

    def _receive(self) -> None:
        assert self._socket is not None
        while True:
            try:
                packet = self._socket.recv(PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lost()
                return
            verb, number, detail = packet.decode().split()
            if verb == "P":
                self._servers[int(number)].process_started(int(detail))
            elif verb == "F":
                self._start_failed(int(number), OSError(int(detail), os.strerror(int(detail))))
            elif verb == "E":
                self._servers.pop(int(number)).process_exited(int(detail))

    def _start_failed(self, number: int, error: OSError) -> None:
        self._servers.pop(number).start_failed(error)

    def _lost(self) -> None:
        assert self._socket is not None
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        if self._closing:
            return
        _wait(self.pid)
        self.pid = 0
        kill_descendants()
        for server in list(self._servers.values()):
            server.process_exited(9)
        self._servers.clear()
        self.on_lost()


def kill_descendants() -> None:
    """SIGKILL to all descendants of this process, until there are none."""
    while left := guard_process.descendants_of(os.getpid()):
        for pid in left:
            guard_process.send_signal(pid, 9)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _wait(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
