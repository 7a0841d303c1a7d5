"""A whole shim in this process: servers and clients are objects, and time passes only when a test says so.

    shim = make(isolation="shared", server=LEGACY)
    call = shim.modern("tools/call", {"name": "slow"})
    shim.server.answer(shim.server.calls[-1], {"content": []})
    assert call.result == {"content": [], "resultType": "complete"}

No process, no socket, no thread. A test is a plain function: each helper runs the event loop until nothing is left to
do at this moment, and `shim.advance(seconds)` lets time pass.
"""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mcpmesh.shim.app import App
from mcpmesh.shim.config import build
from mcpmesh.shim.context import Context
from mcpmesh.shim.protocol.server_info import ServerInfo
from mcpmesh.shim.server.channel import OutputTail, ServerExit

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
META = "io.modelcontextprotocol/"
TOOLS = [{"name": "echo", "inputSchema": {"type": "object"}}]
CAPABILITIES = {
    "tools": {"listChanged": True},
    "prompts": {},
    "resources": {"subscribe": True, "listChanged": True},
    "logging": {},
}
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
# Turns of the loop after which nothing is left to do, unless time passes.
TURNS = 40


class VirtualSelector(selectors.DefaultSelector):
    """Instead of waiting, lets the time pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("the loop waits for something that will never happen")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is the selector's."""

    def __init__(self) -> None:
        self._virtual = VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class FakeServer:
    """One server process, from the shim's point of view a channel. It answers the handshake by itself.

    Other requests wait in `calls` until the test answers them; whatever arrives is in `received`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, era: str, automatic: dict[str, Any]) -> None:
        self._loop = loop
        self.era = era
        self.automatic = automatic
        self.received: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.stopped = False
        self.paused = False
        # What a Channel has.
        self.tail = OutputTail()
        self.pid = 1
        self.exit: ServerExit | None = None
        self.exited = asyncio.Event()
        self.on_line: Callable[[bytes], None] = lambda _: None
        self.on_exit: Callable[[ServerExit], None] = lambda _: None
        self.on_oversize: Callable[[bytes, bytes, int], None] = lambda *_: None
        self.waiting_bytes = 0
        self.start_error: Exception | None = None

    async def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error

    def write(self, line: bytes) -> None:
        assert line.endswith(b"\n")
        assert b"\n" not in line[:-1]
        message = json.loads(line)
        self.received.append(message)
        if "method" in message and "id" in message:
            reply = self.automatic.get(message["method"])
            if reply is None:
                self.calls.append(message)
            else:
                self._loop.call_soon(self._line, {"jsonrpc": "2.0", "id": message["id"], **reply})

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def kill(self) -> None:
        self._loop.call_soon(self._exit, ServerExit(signal=9))

    async def stop(self, step_seconds: float) -> None:
        self.stopped = True
        await asyncio.sleep(0)
        self._exit(ServerExit(code=0))

    # For tests.

    def _line(self, message: Any) -> None:
        if self.exit is None:
            self.on_line(message if isinstance(message, bytes) else json.dumps(message, separators=(",", ":")).encode())

    def _exit(self, exit: ServerExit) -> None:
        if self.exit is None:
            self.exit = exit
            self.exited.set()
            self.on_exit(exit)

    def send(self, *messages: Any) -> None:
        """Send messages (or raw lines) at once, one after the other."""
        for message in messages:
            self._loop.call_soon(self._line, {"jsonrpc": "2.0", **message} if isinstance(message, dict) else message)
        settle(self._loop)

    def answer(self, call: dict[str, Any], result: Any = None, error: Any = None) -> None:
        """Answer a call."""
        body = {"result": {} if result is None else result} if error is None else {"error": error}
        self.send({"id": call["id"], **body})

    def request(self, id: Any, method: str, params: Any = None) -> None:
        """Send a server request."""
        self.send({"id": id, "method": method, **({} if params is None else {"params": params})})

    def notify(self, method: str, params: Any = None) -> None:
        """Send a notification."""
        self.send({"method": method, **({} if params is None else {"params": params})})

    def exit_with(self, exit: ServerExit | None = None) -> None:
        """Exit."""
        self._loop.call_soon(self._exit, exit or ServerExit(code=1))
        settle(self._loop)

    def methods(self) -> list[str]:
        """The methods of what arrived, in order; an answer to a server request is "answer"."""
        return [message.get("method", "answer") for message in self.received]

    def answers(self) -> dict[Any, Any]:
        """The answers to server requests by id: results and errors."""
        return {
            message["id"]: message.get("result", message.get("error"))
            for message in self.received
            if "method" not in message
        }

    def cancelled(self) -> list[int]:
        """The ids of calls that were cancelled."""
        return [
            message["params"]["requestId"]
            for message in self.received
            if message.get("method") == "notifications/cancelled"
        ]


class FakeTransport(asyncio.Transport):
    """The network between a client and the shim."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self.protocol = protocol
        self.data = bytearray()
        self.unread_bytes = 0
        self.closing = False
        self.aborted = False
        self.reading = True

    def write(self, data: Any) -> None:
        self.data += data

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.data += data

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._loop.call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Client:
    """One client connection, and the answers that arrived on it."""

    def __init__(self, shim: Shim) -> None:
        self.shim = shim
        self.connection = shim.app.accept()
        self.transport = FakeTransport(shim.loop, self.connection)
        shim.loop.call_soon(self.connection.connection_made, self.transport)

    def send(self, *chunks: bytes) -> Client:
        """Send bytes."""
        for chunk in chunks:
            self.shim.loop.call_soon(self.connection.data_received, chunk)
        self.shim.settle()
        return self

    def leave(self) -> None:
        """Close the connection."""
        self.transport.close()
        self.shim.settle()

    def stop_reading(self) -> None:
        """The client reads nothing more: the transport's buffer is full."""
        self.connection.pause_writing()
        self.shim.settle()

    def read_on(self) -> None:
        """The client has read all."""
        self.connection.resume_writing()
        self.shim.settle()

    @property
    def head(self) -> str:
        """The head of the first answer; empty if there is none."""
        head, found, _ = bytes(self.transport.data).partition(b"\r\n\r\n")
        return head.decode() if found else ""

    @property
    def status(self) -> int:
        """The HTTP status; 0 if no answer has begun."""
        return int(self.head.split()[1]) if self.head else 0

    @property
    def headers(self) -> dict[str, str]:
        return dict(line.split(": ", 1) for line in self.head.split("\r\n")[1:])

    @property
    def body(self) -> bytes:
        """What follows the first head."""
        return bytes(self.transport.data).partition(b"\r\n\r\n")[2]

    @property
    def streaming(self) -> bool:
        return self.headers.get("content-type") == "text/event-stream"

    @property
    def ended(self) -> bool:
        """Whether the answer is complete."""
        if self.streaming:
            return self.body.endswith(b"0\r\n\r\n")
        return bool(self.head) and len(self.body) == int(self.headers["content-length"])

    @property
    def messages(self) -> list[Any]:
        """The JSON-RPC messages of the answer: the body, or those of the events so far."""
        if not self.streaming:
            return [json.loads(self.body)] if self.ended and self.body else []
        return [json.loads(line[6:]) for line in self.body.split(b"\r\n") if line.startswith(b"data: ")]

    @property
    def result(self) -> Any:
        """The result in the last message."""
        return self.messages[-1]["result"]

    @property
    def error(self) -> Any:
        """The error in the last message."""
        return self.messages[-1]["error"]


class LegacyClient:
    """A client of the legacy era with an open session."""

    def __init__(self, shim: Shim, opened: Client) -> None:
        self.shim = shim
        self.opened = opened
        self.id = opened.headers["mcp-session-id"]

    def request(self, method: str, params: Any = None, id: Any = 1) -> Client:
        """Send a request on a connection of its own."""
        return self.shim.post({"id": id, "method": method, **({} if params is None else {"params": params})}, self.id)

    def call(self, name: str = "echo", id: Any = 1, **arguments: Any) -> Client:
        """Call a tool."""
        return self.request("tools/call", {"name": name, "arguments": arguments}, id)

    def notify(self, method: str, params: Any = None) -> Client:
        """Send a notification."""
        return self.shim.post({"method": method, **({} if params is None else {"params": params})}, self.id)

    def answer(self, id: Any, result: Any = None, error: Any = None) -> Client:
        """Answer a server request."""
        return self.shim.post({"id": id, **({"result": result} if error is None else {"error": error})}, self.id)

    def cancel(self, id: Any) -> Client:
        """Cancel a request."""
        return self.notify("notifications/cancelled", {"requestId": id})

    def listen(self) -> Client:
        """Open the GET stream."""
        return self.shim.http("GET", "/mcp", {"accept": "text/event-stream", "mcp-session-id": self.id})

    def delete(self) -> Client:
        """End the session."""
        return self.shim.http("DELETE", "/mcp", {"mcp-session-id": self.id})


class Shim:
    """A shim with everything around it."""

    def __init__(self, loop: VirtualLoop, era: str, capabilities: dict[str, Any], config: dict[str, Any]) -> None:
        self.loop = loop
        self.era = era
        self.servers: list[FakeServer] = []
        self.next_errors: list[Exception | None] = []
        """For each of the next servers, the exception at its start."""
        identity = {"name": "fake", "version": "1"}
        unknown = {"error": {"code": -32601, "message": "Method not found"}}
        discovered = {
            "supportedVersions": [MODERN],
            "capabilities": capabilities,
            "_meta": {f"{META}serverInfo": identity},
        }
        initialized = {"protocolVersion": LEGACY, "capabilities": capabilities, "serverInfo": identity}
        self.automatic: dict[str, Any] = {
            "server/discover": {"result": discovered} if era == MODERN else unknown,
            "initialize": {"result": initialized} if era == LEGACY else unknown,
            "tools/list": {"result": {"tools": TOOLS}},
        }
        """The answers that servers give by themselves; a test may change them."""
        self.config = build({"command": "fake", **config})
        loop.run_until_complete(self._build())

    async def _build(self) -> None:
        self.context = Context(self.config, now=self.loop.time, wall_clock=self.loop.time)
        self.server_info = ServerInfo()
        self.app = App(self.context, self.server_info, self._open_channel)
        self.supervision: asyncio.Task[None] | None = None

    def _open_channel(self) -> FakeServer:
        server = FakeServer(self.loop, self.era, self.automatic)
        if self.next_errors:
            server.start_error = self.next_errors.pop(0)
        self.servers.append(server)
        return server

    @property
    def server(self) -> FakeServer:
        """The main server process."""
        main = self.app.pool.main
        assert main is not None
        return main.channel  # type: ignore[return-value]

    @property
    def running(self) -> list[FakeServer]:
        """The servers that were started and have not exited."""
        return [server for server in self.servers if server.exit is None and server.start_error is None]

    @property
    def events(self) -> dict[str, int]:
        """The counted events that happened."""
        return {name: count for name, count in self.context.metrics.events.items() if count}

    @property
    def outcomes(self) -> dict[tuple[str, str, str], int]:
        """The counted calls by era, method and outcome."""
        return self.context.metrics.calls

    def settle(self) -> None:
        """Run until nothing is left to do at this moment; the first time this starts the main server."""
        if self.supervision is None:
            self.supervision = self.loop.create_task(self.app.supervisor.run())
        settle(self.loop)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.settle()
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.settle()

    # Clients.

    def http(self, method: str, path: str, headers: dict[str, str], body: bytes = b"", leave: bool = False) -> Client:
        """Send one HTTP request on a connection of its own; with `leave` the client is gone at once."""
        lines = [f"{method} {path} HTTP/1.1", "host: localhost", *(f"{key}: {text}" for key, text in headers.items())]
        if body or method == "POST":
            lines.append(f"content-length: {len(body)}")
        client = Client(self)
        self.loop.call_soon(client.connection.data_received, "\r\n".join([*lines, "", ""]).encode() + body)
        if leave:
            self.loop.call_soon(client.transport.close)
        self.settle()
        return client

    def get(self, path: str) -> Client:
        """One of the plain endpoints."""
        return self.http("GET", path, {})

    def post(
        self,
        message: Any,
        session: str | None = None,
        headers: dict[str, str] | None = None,
        leave: bool = False,
    ) -> Client:
        """Send a JSON-RPC message, or a list of them as a batch."""
        listed = isinstance(message, list)
        body = json.dumps([{"jsonrpc": "2.0", **m} for m in message] if listed else {"jsonrpc": "2.0", **message})
        base = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        if session is not None:
            base["mcp-session-id"] = session
        return self.http("POST", "/mcp", {**base, **(headers or {})}, body.encode(), leave)

    def initialize(self, capabilities: Any = None, id: Any = 0, version: str = LEGACY, leave: bool = False) -> Client:
        """A legacy client's `initialize`."""
        client = {"name": "client", "version": "1"}
        params = {"protocolVersion": version, "capabilities": capabilities or {}, "clientInfo": client}
        return self.post({"id": id, "method": "initialize", "params": params}, leave=leave)

    def session(self, capabilities: Any = None) -> LegacyClient:
        """A legacy client whose session is open; a dedicated server answers its `initialize` by itself."""
        return LegacyClient(self, self.initialize(capabilities))

    def modern(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        id: Any = 1,
        capabilities: dict[str, Any] | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Client:
        """A modern client's request, with the headers that belong to it."""
        params = dict(params or {})
        envelope = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": capabilities or {}}
        headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
        if method in NAMED:
            headers["mcp-name"] = params[NAMED[method]]
        params["_meta"] = {**envelope, **(meta or {})}
        return self.post({"id": id, "method": method, "params": params}, headers=headers)

    # The end.

    def drain(self) -> asyncio.Task[int]:
        """Begin to drain."""
        task = self.loop.create_task(self.app.drain())
        self.settle()
        return task

    def close(self) -> None:
        """Close the shim; nothing may be left."""
        self.loop.run_until_complete(self.app.close())
        if self.supervision is not None:
            self.supervision.cancel()
        self.settle()
        assert self.running == []
        tasks = asyncio.all_tasks(self.loop)
        assert not tasks, tasks


def settle(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until nothing is left to do at this moment; time does not pass."""

    async def turns() -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    loop.run_until_complete(turns())


@contextmanager
def in_process(
    era: str = LEGACY, capabilities: dict[str, Any] | None = None, start: bool = True, **config: Any
) -> Iterator[Shim]:
    """A shim whose main server is ready, unless `start` is False; at the end nothing may be left of it."""
    loop = VirtualLoop()
    try:
        shim = Shim(loop, era, CAPABILITIES if capabilities is None else capabilities, config)
        if start:
            shim.settle()
            assert shim.app.lifecycle.state == "ready"
        yield shim
        shim.close()
    finally:
        loop.close()
