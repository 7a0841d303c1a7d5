"""The command line of `mcpmesh-shim`: its words become a Config."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mcpmesh import __version__
from mcpmesh.shim.config import ISOLATIONS, Config, ConfigError, build, parse

if TYPE_CHECKING:
    import argparse

HELP = """\
Serve a stdio MCP server over Streamable HTTP, in both protocol eras, on loopback.

  mcpmesh-shim --port 9000 -- npx -y @modelcontextprotocol/server-filesystem /tmp
  mcpmesh-shim --config -      one JSON object on stdin (docs/shim.md lists its fields)
"""
EPILOG = """\
endpoints: /mcp (MCP), /health, /ready, /info, /metrics
exit codes: 0 stopped as told, 2 bad configuration, 3 port taken, 4 the guard process was lost
The server's stderr goes to this program's stderr unchanged; this program's own lines begin with "mcpmesh-shim: ".
"""


def arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    import argparse  # imported here, since an agent starts its shims without it

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
    parser.add_argument("--port", type=int, help="port to listen on (0: any; the chosen one is printed on stderr)")
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
    """The configuration from the command line; raises ConfigError."""
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
