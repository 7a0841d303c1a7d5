"""Serves an application on loopback inside a program that does other work too.

uvicorn takes over no signals here and logs errors only. An address that cannot be used raises an error of ours
instead of ending the program.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator

import uvicorn
from fastapi import FastAPI

from mcpmesh.api.loopback import is_loopback
from mcpmesh.errors import SettingsError, Unreachable

# Streams have ended by then; this is for answers that are being sent.
SHUTDOWN_SECONDS = 2


async def serve(app: FastAPI, host: str, port: int, listening: Callable[[str], None] | None = None) -> None:
    """Serves an application of `app.create` until it is cancelled.

    Its streams end then, and answers that are being sent have two seconds.

    Port 0 takes a free port. `listening` is called with the address ("http://127.0.0.1:11091") as soon as requests
    are answered there. Raises SettingsError for a host that is not loopback, Unreachable for an address that
    cannot be used.
    """
    sock = _bind(host, port)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ),
        lambda: listening and listening(_address(sock)),
    )
    running = asyncio.create_task(server.serve([sock]), name="api server")
    try:
        await asyncio.shield(running)
    finally:
        try:
            await app.state.streams.close()
        finally:
            server.should_exit = True
            try:
                await asyncio.shield(running)
            finally:
                sock.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], object]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _bind(host: str, port: int) -> socket.socket:
    if not is_loopback(host):
        raise SettingsError(f"cannot serve the agent's API at {host}: it is for this machine alone; use 127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise Unreachable(
            f"cannot listen at {host}:{port} for the agent's API: {error.strerror}; "
            "see what holds the port with: ss -ltnp"
        ) from error
    return sock


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
