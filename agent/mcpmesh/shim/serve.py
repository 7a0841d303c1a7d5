"""The program: read the configuration, serve until told to stop, leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcpmesh import __version__
from mcpmesh.shim.config import ISOLATIONS, Config, ConfigError, build, parse
from mcpmesh.shim.log import say

if TYPE_CHECKING:
    import argparse

    from mcpmesh.shim.app import App

EXIT_CONFIG: Final = 2
EXIT_PORT: Final = 3
EXIT_GUARD: Final = 4
BACKLOG: Final = 1024
PEER_PROBES: Final = 4

HELP = """\
Serve a stdio MCP server over Streamable HTTP, in both protocol eras, on loopback.

  mcpmesh-shim --port 9000 -- npx -y @modelcontextprotocol/server-filesystem /tmp
  mcpmesh-shim --config -      one JSON object on stdin (docs/shim.md lists its fields)
"""
EPILOG = """\
endpoints: /mcp (MCP), /health, /ready, /info, /metrics
exit codes: 0 stopped as told, 2 bad configuration, 3 port taken, 4 the guard process was lost
The server's stderr goes to this program's stderr as it is; this program's own lines begin with "mcpmesh-shim: ".
"""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    import argparse  # not needed where the agent starts a shim

    parser = argparse.ArgumentParser(
        prog="mcpmesh-shim",
        description=HELP,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mcpmesh-shim {__version__}")
    parser.add_argument("--config", metavar="FILE", help="read the configuration from FILE, or from stdin for -")
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (0: any; it is told on stderr)")
    parser.add_argument("--name", help="the service's name, in metrics and /info")
    parser.add_argument(
        "--isolation",
        choices=ISOLATIONS,
        help="session: a process per legacy session (default); shared: one for all; request: one per call",
    )
    parser.add_argument("--cwd", help="working directory of the server")
    parser.add_argument("--url", help="relay a remote Streamable HTTP server instead of a command")
    parser.add_argument("--start-seconds", type=float, help="time for the server's first answer (default 60)")
    parser.add_argument("--request-seconds", type=float, help="time for one call (default 86400)")
    parser.add_argument("--drain-seconds", type=float, help="time for calls in flight after SIGTERM (default 10)")
    parser.add_argument("command", nargs="?", help="the server's program, after --")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="and its arguments")
    return parser


def configuration(words: list[str]) -> Config:
    """From the command line; raises ConfigError."""
    if words == ["--config", "-"]:
        return parse(sys.stdin.buffer.read())
    options = vars(arguments().parse_args(words))
    source = options.pop("config")
    if source is not None:
        others = [key for key, item in options.items() if item not in (None, [])]
        if others:
            raise ConfigError(f"cannot use --config together with --{others[0].replace('_', '-')}: say it in the file")
        try:
            data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read the configuration {source}: {error.strerror}") from None
        return parse(data)
    if options["port"] is None:
        raise ConfigError("cannot start: give --port and a command after --, or --config (see --help)")
    given = {key: item for key, item in options.items() if item not in (None, [])}
    return build({"name": Path(given.get("command", "remote")).name, **given})


def notice_silent_peers(sock: socket.socket, seconds: float) -> None:
    """What is accepted here ends when its peer has gone without a word, as one that lost its power does.

    Accepted sockets inherit these options. Without them such a connection, when idle, would stay for good.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(seconds)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(seconds / PEER_PROBES)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PEER_PROBES)


def listen(config: Config) -> socket.socket:
    """The listening socket; raises OSError."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        notice_silent_peers(sock, config.limits.silent_peer_seconds)
        sock.bind((config.host, config.port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


async def serve(config: Config, sock: socket.socket) -> int:
    """Until SIGTERM or SIGINT, a second of which cuts the drain short; answers the exit code."""
    from mcpmesh.shim.app import App
    from mcpmesh.shim.http.connection import Connection
    from mcpmesh.shim.server.guard_client import Guardian

    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    code = 0

    def guard_lost() -> None:
        nonlocal code
        say("the guard process was lost and every server with it; stopping")
        code = EXIT_GUARD
        told.set()

    def signalled() -> None:
        if told.is_set():
            app.hurry = True
        told.set()

    guardian = Guardian(config, guard_lost)
    app = App(config, guardian)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    server = await loop.create_server(lambda: Connection(app), sock=sock, backlog=BACKLOG)
    private = await _private(app, config.socket) if config.socket else None
    # What the start has made stays: looked through in vain, it would hold up all answers for 6 ms now and then.
    gc.freeze()
    say("%s listens on %s:%d", config.name, *sock.getsockname()[:2])
    keeping = loop.create_task(app.keeper.run(), name="supply")
    failed = loop.create_task(_first(keeping, told), name="run")
    await failed
    if code == 0:
        await app.drain()
    for listener in filter(None, (server, private)):
        listener.close()
    await app.close()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await guardian.close()
    return code


async def _private(app: App, path: str) -> asyncio.Server:
    """The same pages at a socket that its owner alone can open."""
    from mcpmesh.shim.http.connection import Connection

    before = os.umask(0o177)
    try:
        return await asyncio.get_running_loop().create_unix_server(lambda: Connection(app), path)
    finally:
        os.umask(before)


async def _first(keeping: asyncio.Task[None], told: asyncio.Event) -> None:
    """Until told, or until the supply fails for a reason of its own, which is a bug and raised."""
    waiting = asyncio.create_task(told.wait(), name="signal")
    done, _ = await asyncio.wait({keeping, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done:
        if task is keeping:
            task.result()


def main() -> None:
    """Entry point of `mcpmesh-shim`."""
    sys.exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """The exit code."""
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

    malloc.keep_freed()
    rlimits.raise_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(config, sock))
