"""The plain endpoints: /health, /ready, /info, /metrics."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mcpmesh import __version__
from mcpmesh.shim.context import Context
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.server_info import ServerInfo
from mcpmesh.shim.server.lifecycle import Lifecycle
from mcpmesh.shim.server.supervisor import Supervisor

METRICS_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

# After a server's exit it takes a moment until its exit status is known (seconds).
EXIT_KNOWN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What exists in the shim at this moment."""

    children: int
    sessions: int
    in_flight: int
    connections: int
    incoming_bytes: int
    suspended: int


class Endpoints:
    """Answers the plain endpoints; `by_path` has the function for each."""

    def __init__(
        self,
        context: Context,
        lifecycle: Lifecycle,
        supervisor: Supervisor,
        server_info: ServerInfo,
        usage: Callable[[], Usage],
    ) -> None:
        self.context = context
        self.config = context.config
        self.lifecycle = lifecycle
        self.supervisor = supervisor
        self.server_info = server_info
        self.usage = usage
        self.by_path: dict[bytes, Callable[[Exchange], None]] = {
            b"/health": self.health,
            b"/ready": self.ready,
            b"/info": self.info,
            b"/metrics": self.metrics,
        }

    def health(self, exchange: Exchange) -> None:
        """The shim itself runs."""
        exchange.reply(200, [b'{"status":"alive"}'])

    def ready(self, exchange: Exchange) -> None:
        """Whether the server answers, and if not, why."""
        self.context.spawn(self._ready(exchange), "ready")

    async def _ready(self, exchange: Exchange) -> None:
        lifecycle = self.lifecycle
        state = "draining" if self.context.draining else lifecycle.state
        if state == "ready" and not await self.supervisor.answers():
            changed = lifecycle.state == "ready" and await lifecycle.wait_for_change(EXIT_KNOWN_SECONDS)
            state = lifecycle.state if changed or lifecycle.state != "ready" else "restarting"
        body: dict[str, Any] = {"state": state, "name": self.config.name, "instance": self.config.instance}
        status = 200 if state == "ready" else 503
        if status != 200:
            body["error"] = lifecycle.error or f"the server is {state}"
            body["exit_code"] = lifecycle.exit.code if lifecycle.exit else None
            body["output"] = list(lifecycle.tail.lines)
        self.context.metrics.status(status)
        exchange.reply(status, [codec.encode(body)])

    def info(self, exchange: Exchange) -> None:
        """What is known of the server, and what exists at this moment."""
        server_info, usage = self.server_info, self.usage()
        body = {
            "name": self.config.name,
            "instance": self.config.instance,
            "pid": os.getpid(),
            "version": __version__,
            "isolation": self.config.isolation,
            "server": {key: server_info.identity.get(key, "") for key in ("name", "version")},
            "protocol_versions": sorted(server_info.versions),
            "eras": server_info.eras,
            "capabilities": server_info.capabilities,
            "tools": server_info.tool_digests(),
            "children": usage.children,
            "sessions": usage.sessions,
            "in_flight": usage.in_flight,
        }
        exchange.reply(200, [codec.encode(body)])

    def metrics(self, exchange: Exchange) -> None:
        """Prometheus text."""
        usage = self.usage()
        gauges: dict[str, tuple[str, float]] = {
            "up": ("1 when the server is ready.", float(self.lifecycle.state == "ready")),
            "children": ("Server processes.", usage.children),
            "sessions": ("Legacy sessions.", usage.sessions),
            "in_flight": ("Calls in flight.", usage.in_flight),
            "connections": ("Client connections.", usage.connections),
            "incoming_bytes": ("Bytes of request bodies that are still coming in.", usage.incoming_bytes),
            "suspended": ("Calls that wait for their client's input.", usage.suspended),
        }
        labels = {"service": self.config.name, "instance": self.config.instance}
        exchange.reply(200, [self.context.metrics.text(gauges, labels).encode()], METRICS_TYPE)
