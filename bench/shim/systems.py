"""The measured systems: the shim in its modes, rivals as they are published, and a server without a bridge."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_urlsafe

OURS = "mcpmesh-shim"
NO_CHILD = "no server process and no bridge: the cost of net/http alone"


@dataclass(frozen=True)
class Start:
    """The parts of a system's command line."""

    package: Path
    """The folder of its package; for a system without one, that of the benchmark's programs."""
    child: str
    """The MCP server's program."""
    port: int
    folder: Path
    """A folder for the system's files."""


@dataclass(frozen=True)
class System:
    """One row of the table."""

    name: str
    command: Callable[[Start], list[str]]
    package: str = ""
    """The package to install (see `packages`); empty for a system that is part of this project."""
    kind: str = "rival"
    """ours, rival, reference or checkout."""
    path: str = "/mcp"
    modern: bool = False
    """Whether clients speak the modern era, which has no sessions."""
    note: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    own_child: bool = False
    """Whether each session has a server process of its own."""
    compared_with: str = ""
    """For a shim of another checkout: the name of this checkout's shim in the same mode."""


def shim(isolation: str, *child_words: str, program: Path | None = None) -> Callable[[Start], list[str]]:
    """A shim with its defaults: every limit, header check and counter is on.

    `program` is the shim's command; the default is that of this checkout.
    """

    def command(start: Start) -> list[str]:
        config = {
            "name": "bench",
            "port": start.port,
            "command": start.child,
            "args": list(child_words),
            "isolation": isolation,
        }
        path = start.folder / "shim.json"
        path.write_text(json.dumps(config))
        return [str(program or Path(sys.executable).with_name("mcpmesh-shim")), "--config", str(path)]

    return command


def tbxark(start: Start) -> list[str]:
    """The Go bridge, which reads a file."""
    config = {
        "mcpProxy": {
            "baseURL": f"http://127.0.0.1:{start.port}",
            "addr": f"127.0.0.1:{start.port}",
            "name": "bench",
            "version": "1",
            "type": "streamable-http",
            "options": {"logEnabled": False},
        },
        "mcpServers": {"bench": {"command": start.child, "args": []}},
    }
    path = start.folder / "tbxark.json"
    path.write_text(json.dumps(config))
    return [str(start.package / "mcp-proxy"), "-config", str(path)]


def fastmcp(start: Start) -> list[str]:
    """fastmcp's command line, which makes a proxy from a client configuration."""
    path = start.folder / "fastmcp.json"
    path.write_text(json.dumps({"mcpServers": {"bench": {"command": start.child, "args": []}}}))
    return [
        str(start.package / "bin/fastmcp"),
        *("run", str(path), "--transport", "http", "--host", "127.0.0.1", "--port", str(start.port)),
        *("--no-banner", "--log-level", "ERROR"),
    ]


def shims(checkout: Path | None = None) -> list[System]:
    """The rows of a shim in its modes: this checkout's, or that of another checkout after `make setup`."""
    program = checkout / ".venv/bin/mcpmesh-shim" if checkout else None
    legacy = shim("session", "-era", "legacy", program=program)
    ours = [
        System(
            OURS,
            shim("session", program=program),
            kind="ours",
            own_child=True,
            note="a server process per session (the default)",
        ),
        System(
            f"{OURS} shared",
            shim("shared", program=program),
            kind="ours",
            note="all sessions over one server process",
        ),
        System(
            f"{OURS} modern",
            shim("session", program=program),
            kind="ours",
            modern=True,
            note="2026-07-28 clients, 2026-07-28 server",
        ),
        System(
            f"{OURS} translated",
            legacy,
            kind="ours",
            modern=True,
            note="2026-07-28 clients, a server that has only older revisions",
        ),
    ]
    if checkout is None:
        return ours
    return [
        replace(one, name=f"{one.name} ({checkout.name})", kind="checkout", compared_with=one.name, note="")
        for one in ours
    ]


SYSTEMS = (
    System(
        "static Go server", lambda s: [str(s.package / "static"), "-port", str(s.port)], kind="reference", note=NO_CHILD
    ),
    *shims(),
    System(
        "TBXark/mcp-proxy (Go)",
        tbxark,
        package="tbxark",
        path="/bench/mcp",
    ),
    System(
        "mcp-proxy (npm)",
        lambda s: [
            *(str(s.package / "node_modules/.bin/mcp-proxy"), "--port", str(s.port), "--host", "127.0.0.1"),
            *("--server", "stream", "--", s.child),
        ],
        package="npm",
    ),
    System(
        "supergateway (npm)",
        lambda s: [
            *(str(s.package / "node_modules/.bin/supergateway"), "--stdio", s.child, "--port", str(s.port)),
            *("--outputTransport", "streamableHttp", "--stateful", "--logLevel", "none"),
        ],
        package="npm",
        own_child=True,
        note="stateful: a server process per session",
    ),
    System(
        "mcp-proxy (PyPI)",
        lambda s: [
            *(str(s.package / "bin/mcp-proxy"), "--host", "127.0.0.1", "--port", str(s.port)),
            *("--log-level", "ERROR", "--", s.child),
        ],
        package="mcp-proxy",
    ),
    System("fastmcp proxy (PyPI)", fastmcp, package="fastmcp"),
    System(
        "contextforge translate (PyPI)",
        lambda s: [
            *(str(s.package / "bin/python"), "-m", "mcpgateway.translate", "--stdio", s.child),
            *("--expose-streamable-http", "--host", "127.0.0.1", "--port", str(s.port), "--logLevel", "error"),
        ],
        package="contextforge",
        # It loads all settings of the gateway and exits if these are not set. Nothing here uses them.
        environment={name: token_urlsafe(48) for name in ("JWT_SECRET_KEY", "AUTH_ENCRYPTION_SECRET")},
    ),
)

ABSENT = {
    "agentgateway (Rust)": "not measured: it is no package of crates.io, npm or PyPI; "
    "it comes as a container image and as release files"
}
"""Systems that readers may expect in the table, with the reason why they are missing."""
