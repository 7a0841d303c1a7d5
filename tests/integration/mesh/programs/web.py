"""A plain HTTP service: says who it is, and passes requests on to its upstreams."""

from __future__ import annotations

import http.client
import json
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/tcp/"):
            self._answer(*self._tcp(self.path.removeprefix("/tcp/")))
        else:
            said = {"pid": os.getpid(), "path": self.path, "word": os.environ.get("WORD")}
            self._answer(200, json.dumps(said).encode())

    def do_POST(self) -> None:
        """POST /via/NAME/rest goes to the upstream NAME as POST /rest, headers of MCP included."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        _, _, name, rest = self.path.split("/", 3)
        passed = ("accept", "content-type", "mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name")
        headers = {key: self.headers[key] for key in passed if key in self.headers}
        connection = http.client.HTTPConnection(_upstream(name), timeout=60)
        try:
            connection.request("POST", f"/{rest}", body, headers)
            answer = connection.getresponse()
            back = {"mcp-session-id": session} if (session := answer.headers.get("mcp-session-id")) else {}
            self._answer(answer.status, answer.read(), answer.headers.get("content-type", "text/plain"), back)
        finally:
            connection.close()

    def _tcp(self, name: str) -> tuple[int, bytes]:
        host, _, port = _upstream(name).rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=60) as peer:
                peer.sendall(b"hello\n")
                answer = peer.makefile("rb").readline()
        except OSError as error:
            return 502, repr(error).encode()
        return (200, answer) if answer else (502, b"closed")

    def _answer(
        self, status: int, body: bytes, kind: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {"content-type": kind, "content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _upstream(name: str) -> str:
    return os.environ[f"MCPMESH_UPSTREAM_{name.upper()}"]


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Web).serve_forever()
