"""A real shim in a process of its own, and clients of both eras that use plain HTTP."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SHIM = [sys.executable, "-m", "mcpmesh.shim"]
FAKE = str(HERE / "servers" / "fake.py")
MODERN = "2026-07-28"
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


# No wait on a loaded machine is this long (seconds).
SECONDS = 60.0


def until(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Wait for the first true result of `condition`, and return it; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"nothing came of it within {seconds} s"
        time.sleep(0.01)


def within(seconds: float, attempt: Callable[[], None]) -> None:
    """Repeat an attempt that fails only because the machine stood still: it fails if it took less than `seconds`.

    What took longer is tried again, three times at most.
    """
    for _ in range(3):
        began = time.monotonic()
        try:
            return attempt()
        except (AssertionError, LookupError):
            if time.monotonic() - began < seconds:
                raise
    return attempt()


class Gate:
    """A file at which the fake server waits (`hold` and other tools, `--start-at`) until the gate is opened."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def reached(self) -> None:
        """Returns when the server waits at it."""
        until(lambda: os.path.exists(f"{self.path}.reached"))

    def open(self) -> None:
        Path(self.path).touch()

    def shut(self) -> None:
        """Close it again."""
        Path(self.path).unlink()
        Path(f"{self.path}.reached").unlink(missing_ok=True)


@contextmanager
def impatient(client: Legacy | Modern, seconds: float = 0.5) -> Iterator[None]:
    """Inside, the client waits no longer than this for the next message."""
    patience = client.http.timeout
    client.http.timeout = httpx.Timeout(SECONDS, read=seconds)
    try:
        yield
    finally:
        client.http.timeout = patience


@contextmanager
def posted(shim: Shim, headers: dict[str, str], body: Any) -> Iterator[None]:
    """A request on a connection of its own, which is closed at the end of the block."""
    content = json.dumps(body)
    head = "".join(f"{key}: {text}\r\n" for key, text in {**headers, "Content-Length": str(len(content))}.items())
    with socket.create_connection(("127.0.0.1", shim.port), timeout=SECONDS) as raw:
        raw.sendall(f"POST /mcp HTTP/1.1\r\nHost: localhost\r\n{head}\r\n{content}".encode())
        yield


def program(name: str) -> str:
    """A real server of examples/, which `make setup` installs."""
    for place in (ROOT / "examples/node_modules/.bin", ROOT / "examples/.venv/bin"):
        if (place / name).exists():
            return str(place / name)
    raise AssertionError(f"{name} is not installed under examples/: run `make setup`")


def children(pid: int) -> list[str]:
    """The direct children of a process."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def descendants(pid: int) -> set[int]:
    """All descendants of a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found - {pid}
        found |= more


def marked(mark: str) -> set[int]:
    """Processes that carry `mark` in their environment."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "environ").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


class Shim:
    """A running shim. `lines` is its stderr so far."""

    def __init__(self, config: dict[str, Any], environment: dict[str, str] | None = None) -> None:
        self.mark = f"test-{os.getpid()}-{time.monotonic_ns()}"
        mark = {"mesh": "test", "home": "/nowhere", "role": "shim", "instance": self.mark, "ports": {"shim": 1}}
        self.process = subprocess.Popen(
            [*SHIM, "--config", "-"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "MCPMESH_MARK": json.dumps(mark), **(environment or {})},
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"name": "test", "instance": self.mark, "port": 0, **config}).encode())
        self.process.stdin.close()
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = 0
        until(self._listening)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=SECONDS, trust_env=False)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    def _listening(self) -> bool:
        for line in self.lines:
            if found := re.search(r"^mcpmesh-shim: .* listens on .*:(\d+)$", line):
                self.port = int(found[1])
                return True
        assert self.process.poll() is None, f"the shim ended: {self.lines}"
        return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def state(self) -> dict[str, Any]:
        """The body of /ready."""
        return self.http.get("/ready").json()

    def wait_ready(self, seconds: float = SECONDS) -> Shim:
        until(lambda: self.http.get("/ready").status_code == 200, seconds)
        return self

    def says(self, words: str) -> str:
        """Wait for the first line of its stderr with these words; it may be read after a later answer."""
        return until(lambda: next((line for line in self.lines if words in line), None))

    def info(self) -> dict[str, Any]:
        return self.http.get("/info").json()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric that carry these labels."""
        total = 0.0
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith(f"mcpmesh_shim_{name}{{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rpartition(" ")[2])
        return total

    def guard(self) -> int:
        """The guard process, the shim's one child."""
        (pid,) = (int(word) for word in children(self.process.pid))
        return pid

    def servers(self) -> set[int]:
        """The server processes and their descendants."""
        return descendants(self.guard())

    def stop(self) -> int:
        """Stop it and return its exit code. No process may be left, and `lines` is complete."""
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(SECONDS)
        self.close()
        return code

    def close(self) -> None:
        self.http.close()
        until(lambda: not marked(self.mark))
        self._reader.join(SECONDS)
        assert self.process.stderr is not None and not self._reader.is_alive()
        self.process.stderr.close()


@contextmanager
def running(*words: str, environment: dict[str, str] | None = None, **config: Any) -> Iterator[Shim]:
    """A shim over the fake server with these options, or with the command or URL of `config`."""
    if "command" not in config and "url" not in config:
        config = {"command": sys.executable, "args": [FAKE, *words], **config}
    shim = Shim(config, environment)
    try:
        yield shim
    finally:
        if shim.process.returncode is None:
            shim.process.terminate()
            try:
                shim.process.wait(SECONDS)
            finally:
                shim.process.kill()
                shim.process.wait()
                shim.close()


def messages(response: httpx.Response) -> list[dict[str, Any]]:
    """All JSON-RPC messages of a complete answer."""
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    return [response.json()] if response.content else []


def initialize(shim: Shim, **more: Any) -> httpx.Response:
    """Only the `initialize` of a legacy session."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    return httpx.post(shim.url, json=body, headers=ACCEPT, trust_env=False, **{"timeout": SECONDS, **more})


class Legacy:
    """A raw client of the legacy era."""

    def __init__(
        self,
        shim: Shim,
        capabilities: dict[str, Any] | None = None,
        version: str = "2025-11-25",
        timeout: float = SECONDS,
    ) -> None:
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{shim.port}", timeout=timeout, trust_env=False)
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        self.opened = self.http.post("/mcp", json=body, headers=ACCEPT)
        if self.opened.status_code != 200:
            self.close()
            raise AssertionError(self.opened.text)
        (answer,) = messages(self.opened)
        self.initialized = answer["result"]
        self.session = self.opened.headers["mcp-session-id"]
        self.headers = {
            **ACCEPT,
            "Mcp-Session-Id": self.session,
            "MCP-Protocol-Version": self.initialized["protocolVersion"],
        }
        self.notify("notifications/initialized")

    def post(self, body: Any, **headers: str) -> httpx.Response:
        return self.http.post("/mcp", json=body, headers={**self.headers, **headers})

    def notify(self, method: str, params: Any = None) -> None:
        body = {"jsonrpc": "2.0", "method": method, **({"params": params} if params is not None else {})}
        assert self.post(body).status_code == 202

    def request(self, method: str, params: Any = None, id: Any = 1) -> list[dict[str, Any]]:
        """All messages of the answer; the last is the response."""
        body = {"jsonrpc": "2.0", "id": id, "method": method, **({"params": params} if params is not None else {})}
        return messages(self.post(body))

    def call(self, tool: str, id: Any = 1, meta: Any = None, **arguments: Any) -> dict[str, Any]:
        """The response to a tool call."""
        params = {"name": tool, "arguments": arguments, **({"_meta": meta} if meta else {})}
        return self.request("tools/call", params, id)[-1]

    def text(self, tool: str, **arguments: Any) -> str:
        return self.call(tool, **arguments)["result"]["content"][0]["text"]

    def stream(self, method: str, params: Any, id: Any = 1) -> Any:
        """A request whose messages are read one by one: a context manager of an httpx response."""
        body = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
        return self.http.stream("POST", "/mcp", json=body, headers=self.headers)

    def listen(self) -> Any:
        """The GET stream."""
        return self.http.stream("GET", "/mcp", headers=self.headers)

    def respond(self, id: Any, result: Any) -> None:
        assert self.post({"jsonrpc": "2.0", "id": id, "result": result}).status_code == 202

    def close(self) -> None:
        self.http.close()


class Modern:
    """A raw client of the modern era."""

    def __init__(self, shim: Shim, capabilities: dict[str, Any] | None = None, timeout: float = SECONDS) -> None:
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{shim.port}", timeout=timeout, trust_env=False)
        self.capabilities = capabilities or {}

    def body(self, method: str, params: dict[str, Any] | None = None, id: Any = 1, **meta: Any) -> dict[str, Any]:
        envelope = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": self.capabilities,
            **meta,
        }
        return {"jsonrpc": "2.0", "id": id, "method": method, "params": {**(params or {}), "_meta": envelope}}

    @staticmethod
    def headers(body: dict[str, Any]) -> dict[str, str]:
        headers = {**ACCEPT, "MCP-Protocol-Version": MODERN, "Mcp-Method": body["method"]}
        if (key := NAMED.get(body["method"])) is not None:
            headers["Mcp-Name"] = body["params"][key]
        return headers

    def post(self, body: dict[str, Any], **headers: str | None) -> httpx.Response:
        """A header given as None is left out."""
        whole = {**self.headers(body), **{key.replace("_", "-"): text for key, text in headers.items()}}
        return self.http.post("/mcp", json=body, headers={key: text for key, text in whole.items() if text is not None})

    def request(self, method: str, params: dict[str, Any] | None = None, id: Any = 1, **meta: Any) -> list[Any]:
        return messages(self.post(self.body(method, params, id, **meta)))

    def call(self, tool: str, id: Any = 1, meta: Any = None, more: Any = None, **arguments: Any) -> dict[str, Any]:
        params = {"name": tool, "arguments": arguments, **(more or {})}
        return self.request("tools/call", params, id, **(meta or {}))[-1]

    def text(self, tool: str, **arguments: Any) -> str:
        return self.call(tool, **arguments)["result"]["content"][0]["text"]

    def stream(self, method: str, params: dict[str, Any] | None = None, id: Any = 1, **meta: Any) -> Any:
        body = self.body(method, params, id, **meta)
        return self.http.stream("POST", "/mcp", json=body, headers=self.headers(body))

    def close(self) -> None:
        self.http.close()


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The messages of a stream as they arrive."""
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])
