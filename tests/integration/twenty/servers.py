"""The twenty: what each is, what has to be installed for it, and a call that shows what it can do offline."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
TWENTY = ROOT / "examples/twenty"


@dataclass(frozen=True)
class Server:
    """One service of examples/twenty/mesh.yaml."""

    package: str
    program: str
    """Relative to examples/twenty."""
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    """`{web}` is the address of a page on loopback, `{home}` the catalog's folder."""
    answer: str = ""
    """What its answer holds where it needs neither token nor internet."""
    lacks: str = ""
    """What it needs besides."""

    @property
    def installed(self) -> bool:
        """Whether this machine has its program."""
        return (TWENTY / self.program).exists()


def npm(name: str) -> str:
    return f"node_modules/.bin/{name}"


SERVERS = {
    "claude-flow": Server(
        "npm claude-flow 3.43.0",
        "claude-flow/" + npm("claude-flow"),
        "agent_list",
        {},
        "agents",
        "an API key for its models",
    ),
    "ruv-swarm": Server(
        "npm ruv-swarm 1.0.20", "ruv-swarm/" + npm("ruv-swarm"), "swarm_init", {"topology": "mesh"}, "swarm"
    ),
    "files": Server(
        "npm @modelcontextprotocol/server-filesystem 2026.8.31",
        npm("mcp-server-filesystem"),
        "list_allowed_directories",
        {},
        "data",
    ),
    "context7": Server(
        "npm @upstash/context7-mcp 4.1.1",
        npm("context7-mcp"),
        "resolve-library-id",
        {"query": "routing", "libraryName": "react"},
        lacks="internet",
    ),
    "http-fetch": Server(
        "PyPI mcp-server-fetch 2026.10.24", ".venv/bin/mcp-server-fetch", "fetch", {"url": "{web}"}, "Greetings"
    ),
    "ddg": Server(
        "PyPI duckduckgo-mcp-server 0.7.0",
        ".venv/bin/duckduckgo-mcp-server",
        "search",
        {"query": "mcp"},
        lacks="internet",
    ),
    "sequentialthinking": Server(
        "npm @modelcontextprotocol/server-sequential-thinking 2026.8.31",
        npm("mcp-server-sequential-thinking"),
        "sequentialthinking",
        {"thought": "one", "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1},
        "thoughtHistoryLength",
    ),
    "nx-mcp": Server("npm nx-mcp 0.25.0", npm("nx-mcp"), "nx_docs", {"userQuery": "cache"}, lacks="internet"),
    "extended-memory": Server(
        "PyPI extended-memory-mcp 0.9.0", ".venv/bin/extended-memory-mcp-server", "list_all_projects", {}, "roject"
    ),
    "mcp-ssh": Server(
        "PyPI mcp-ssh 0.2.7", ".venv/bin/mcp-ssh", "list_sessions", {}, "session", "a host to connect to"
    ),
    "ultimatecoder": Server("the repository m-ahmed-elbeskeri/UltimateCoderMCP", "ultimatecoder/.venv/bin/python"),
    "playwright-mcp": Server(
        "npm @playwright/mcp 0.0.83", npm("playwright-mcp"), "browser_navigate", {"url": "{web}"}, "A page", "Chromium"
    ),
    "memory-bank-mcp": Server(
        "npm @allpepper/memory-bank-mcp 0.2.2",
        npm("mcp-server-memory-bank"),
        "memory_bank_write",
        {"projectName": "twenty", "fileName": "note.md", "content": "a note"},
        "note.md",
    ),
    "knowledge-graph-mcp": Server(
        "npm @modelcontextprotocol/server-memory 2026.8.31", npm("mcp-server-memory"), "read_graph", {}, "entities"
    ),
    "compass-mcp": Server(
        "npm @liuyoshio/mcp-compass 1.0.7",
        npm("mcp-compass"),
        "recommend-mcp-servers",
        {"query": "read files"},
        lacks="internet",
    ),
    "github": Server(
        "npm @modelcontextprotocol/server-github 2025.4.8",
        npm("mcp-server-github"),
        "search_repositories",
        {"query": "mcp"},
        lacks="internet and a token",
    ),
    "http": Server(
        "the same package as http-fetch", ".venv/bin/mcp-server-fetch", "fetch", {"url": "{web}"}, "Greetings"
    ),
    "language-server": Server(
        "Go mcp-language-server v0.1.1 with gopls v0.21.0",
        "bin/mcp-language-server",
        "hover",
        {"filePath": "{home}/workspace/hello.go", "line": 5, "column": 7},
        "Hello greets",
    ),
    "claude-task-runner": Server(
        "the repository grahama1970/claude-task-runner", "claude-task-runner/.venv/bin/python"
    ),
    "postgres": Server(
        "npm @modelcontextprotocol/server-postgres 0.6.2",
        npm("mcp-server-postgres"),
        "query",
        {"sql": "select 40 + 2 as answer"},
        "42",
        "PostgreSQL",
    ),
}


def shim_config(name: str, home: Path, **environment: str) -> dict[str, Any]:
    """What a shim is told to serve this one alone, as the catalog has it."""
    line = yaml.safe_load((home / "mesh.yaml").read_text())["services"][name]
    known = {"CATALOG_DIR": str(home), **environment}
    return {
        "command": expanded(line["command"], known),
        "args": [expanded(str(word), known) for word in line.get("args", [])],
        "env": {key: expanded(text, known) for key, text in line.get("env", {}).items()},
        "cwd": str(home / line.get("cwd", ".")),
        "limits": {"spares": 0},
    }


def expanded(text: str, known: dict[str, str]) -> str:
    """`${NAME}` and `${NAME:-text}`, as the catalog has them."""
    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda found: known.get(found[1], found[2] or ""), text)
