"""A plain TCP service: says each line back in capitals."""

from __future__ import annotations

import os
from socketserver import StreamRequestHandler, ThreadingTCPServer


class Base(StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


if __name__ == "__main__":
    ThreadingTCPServer.allow_reuse_address = True
    ThreadingTCPServer(("127.0.0.1", int(os.environ["PORT"])), Base).serve_forever()
