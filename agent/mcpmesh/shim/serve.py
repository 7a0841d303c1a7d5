"""The program: serve until told to stop, then stop everything that was started."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

from mcpmesh.shim.command_line import configuration
from mcpmesh.shim.config import Config, ConfigError
from mcpmesh.shim.log import log

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

EXIT_CONFIG: Final = 2
EXIT_PORT: Final = 3
EXIT_GUARD: Final = 4
BACKLOG: Final = 1024
# So many keep-alive probes without an answer close a connection.
KEEPALIVE_PROBES: Final = 4


def enable_keepalive(sock: socket.socket, seconds: float) -> None:
    """Close accepted connections whose client vanished without a FIN, as a machine does that loses its power.

    Accepted sockets inherit these options. Without them such a connection would stay open for ever when idle.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(seconds)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(seconds / KEEPALIVE_PROBES)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def listen(config: Config) -> socket.socket:
    """Open the listening socket; raises OSError."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        enable_keepalive(sock, config.limits.silent_peer_seconds)
        sock.bind((config.host, config.port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


async def serve(config: Config, sock: socket.socket) -> int:
    """Serve until SIGTERM or SIGINT, a second of which ends the drain at once; returns the exit code."""
    # Imported after the port is open, so that clients which come early wait instead of being refused.
    from mcpmesh.shim.app import App
    from mcpmesh.shim.context import Context
    from mcpmesh.shim.protocol.server_info import ServerInfo
    from mcpmesh.shim.server.backend import channel_opener
    from mcpmesh.shim.server.guard_client import GuardClient

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    code = 0

    def guard_lost() -> None:
        nonlocal code
        log("the guard process was lost and every server with it; stopping")
        code = EXIT_GUARD
        stop.set()

    def signalled() -> None:
        if stop.is_set():
            app.cut_drain = True
        stop.set()

    guard = GuardClient(config, guard_lost)
    server_info = ServerInfo()
    app = App(Context(config), server_info, channel_opener(config, guard, server_info))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    server = await loop.create_server(app.accept, sock=sock, backlog=BACKLOG)
    private = await _listen_privately(app, config.socket) if config.socket else None
    # The objects of the start stay for good: scanning them would delay all answers by 6 ms now and then.
    gc.freeze()
    log("%s listens on %s:%d", config.name, *sock.getsockname()[:2])
    supervision = loop.create_task(app.supervisor.run(), name="supply")
    await _until_stopped(supervision, stop)
    if code == 0:
        await app.drain()
    for listener in filter(None, (server, private)):
        listener.close()
    await app.close()
    supervision.cancel()
    await asyncio.gather(supervision, return_exceptions=True)
    await guard.close()
    return code


async def _listen_privately(app: App, path: str) -> asyncio.Server:
    """Serve the same at a Unix socket that only its owner can open."""
    umask = os.umask(0o177)
    try:
        return await asyncio.get_running_loop().create_unix_server(app.accept, path)
    finally:
        os.umask(umask)


async def _until_stopped(supervision: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Wait for `stop`; an exception of the supervision is a bug and raised."""
    waiting = asyncio.create_task(stop.wait(), name="signal")
    done, _ = await asyncio.wait({supervision, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if supervision in done:
        supervision.result()


def main() -> None:
    """Entry point of `mcpmesh-shim`."""
    sys.exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Run with these words of the command line; returns the exit code."""
    try:
        config = configuration(words)
    except ConfigError as error:
        print(f"mcpmesh-shim: {error}", file=sys.stderr)
        return EXIT_CONFIG
    try:
        sock = listen(config)
    except OSError as error:
        print(
            f"mcpmesh-shim: cannot listen on {config.host}:{config.port}: {error.strerror}; "
            "choose another port or stop what holds it",
            file=sys.stderr,
        )
        return EXIT_PORT
    import uvloop

    from mcpmesh.shim import malloc
    from mcpmesh.shim.server import rlimits

    malloc.retain_freed_memory()
    rlimits.raise_open_files_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(config, sock))
