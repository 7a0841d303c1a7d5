"""One running system: its start, requests to it, and its end with a count of the processes that it left behind."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.shim import meters
from bench.shim.systems import Start, System

START_SECONDS = 60.0
# A stopped bridge has this time to stop its server. A server that runs on after it counts as left behind.
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02
STUBBORN = "stubborn"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


class Broken(Exception):
    """The system does not work on this machine; the message is the reason."""


@dataclass(frozen=True)
class Left:
    """The processes that a stopped bridge left behind, before this harness killed them."""

    children: int
    stopped: bool
    """Whether the bridge itself had ended within STOP_SECONDS of SIGTERM."""


class Bridge:
    """A started system. `stop` has to be called in every case."""

    def __init__(self, system: System, package: Path, child: Path, folder: Path, stubborn: bool = False) -> None:
        """`child` is the server's program. The bridge gets a copy of it in `folder`, which no other bridge uses.

        A stubborn server does not exit when its stdin ends.
        """
        self.system = system
        self.child = folder / (STUBBORN if stubborn else "bench-child")
        shutil.copy2(child, self.child)
        self.port = free_port()
        self.log = folder / "bridge.log"
        words = system.command(Start(package, str(self.child), self.port, folder))
        self._out = self.log.open("ab")
        try:
            self.process = subprocess.Popen(
                words,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._out,
                env={**os.environ, "FASTMCP_CHECK_FOR_UPDATES": "off", **system.environment},
                start_new_session=True,
            )
        except OSError as error:
            self._out.close()
            raise Broken(f"cannot start {words[0]}: {error.strerror}") from None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.system.path}"

    def pids(self) -> set[int]:
        """The bridge's processes, without the servers behind it."""
        return {pid for pid in meters.tree(self.process.pid) if not meters.runs(pid, self.child)}

    def cpu_seconds(self) -> float:
        """CPU time of the bridge so far."""
        return sum(map(meters.cpu_seconds, self.pids()))

    def wait_ready(self) -> None:
        """Wait until it answers MCP; raises Broken."""
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None:
                raise Broken(f"it ended with code {self.process.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise Broken(f"no MCP answer within {START_SECONDS:.0f} s: {self.last_words()}")
            time.sleep(POLL_SECONDS)

    def last_words(self) -> str:
        """The last line of the bridge's output."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:200] if lines else "no output"

    def open_session(self) -> None:
        """Open a session and leave it open."""
        self.request("POST", INITIALIZE)

    def _answers(self) -> bool:
        try:
            status, session = self.request("POST", INITIALIZE)
            if session:
                self.request("DELETE", None, {"Mcp-Session-Id": session})
        except (OSError, http.client.HTTPException):
            return False
        return status == 200

    def request(self, method: str, message: Any, headers: dict[str, str] | None = None) -> tuple[int, str | None]:
        """One exchange; returns the status and the session id."""
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        try:
            body = json.dumps(message) if message is not None else None
            conn.request(method, self.system.path, body, {**HEADERS, **(headers or {})})
            response = conn.getresponse()
            return response.status, response.headers.get("mcp-session-id")
        finally:
            conn.close()

    def stop(self, number: int = signal.SIGTERM) -> Left:
        """Signal the bridge alone, as a supervisor does, count the servers that run on, and kill everything."""
        below = meters.tree(self.process.pid) - {self.process.pid}
        self.process.send_signal(number)
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            stopped = self.process.poll() is not None
            servers = meters.left(self.child) - {self.process.pid}
            if (stopped and not servers) or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        self.process.kill()
        self.process.wait()
        for pid in servers | {pid for pid in below if not meters.ended(pid)}:
            meters.send(pid, signal.SIGKILL)
        self._out.close()
        return Left(len(servers), stopped)


def free_port() -> int:
    """A free port of loopback."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
