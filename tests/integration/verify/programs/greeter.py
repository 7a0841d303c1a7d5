"""A TCP service that speaks first, as many databases do."""

import os
import socketserver


class Greeter(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"welcome\n")
        while line := self.rfile.readline():
            self.wfile.write(line)


socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer.daemon_threads = True
with socketserver.ThreadingTCPServer(("127.0.0.1", int(os.environ["PORT"])), Greeter) as server:
    server.serve_forever()
