"""A fake remote MCP server: a test decides its answers, and it keeps the messages that it got."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

INITIALIZED = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "far"}}


class Answer:
    """The answer to one message: a result, or the bytes of an event stream; and headers."""

    def __init__(self, result: Any = None, events: bytes | None = None, **headers: str) -> None:
        self.result = result
        self.events = events
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}


class Remote:
    """Speaks the legacy era, unless `answer` returns something else for a message."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer | None]) -> None:
        self.answer = answer
        self.sent: list[tuple[dict[str, Any], Any]] = []
        """Each message that was posted, with its headers."""

    def of(self, method: str) -> list[Any]:
        """The headers of the messages of this method."""
        return [headers for message, headers in self.sent if message.get("method") == method]

    def reply(self, message: dict[str, Any]) -> Answer | None:
        """None stands for an error."""
        if (answer := self.answer(message)) is not None:
            return answer
        match message.get("method"):
            case "initialize":
                return Answer(INITIALIZED)
            case "tools/list":
                return Answer({"tools": [{"name": "any", "inputSchema": {"type": "object"}}]})
            case "tools/call":
                return Answer({"content": [{"type": "text", "text": "done"}]})
        return None


@contextmanager
def standing(answer: Callable[[dict[str, Any]], Answer | None] = lambda _: None) -> Iterator[tuple[Remote, str]]:
    """A remote server, and its address."""
    remote = Remote(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing."""

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            remote.sent.append((message, self.headers))
            if "id" not in message:
                self._send(202, b"", {})
                return
            answer = remote.reply(message)
            head = {"jsonrpc": "2.0", "id": message["id"]}
            if answer is None:
                self._json({**head, "error": {"code": -32601, "message": "no such method"}}, {})
            elif answer.events is not None:
                self._send(200, answer.events, {"Content-Type": "text/event-stream", **answer.headers})
            else:
                self._json({**head, "result": answer.result}, answer.headers)

        def do_GET(self) -> None:
            self._send(405, b"", {})

        def do_DELETE(self) -> None:
            self._send(200, b"", {})

        def _json(self, body: Any, headers: dict[str, str]) -> None:
            self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, text in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield remote, f"http://127.0.0.1:{server.server_port}/mcp"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
