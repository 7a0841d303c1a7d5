"""The plain endpoints: /health, /ready, /info, /metrics."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mcpmesh import __version__
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.jsonrpc import codec

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

TEXT: Final = b"text/plain; version=0.0.4; charset=utf-8"

_END_KNOWN_SECONDS: Final = 1.0


def health(_app: App, exchange: Exchange) -> None:
    """The shim itself is alive."""
    exchange.reply(200, [b'{"status":"alive"}'])


def ready(app: App, exchange: Exchange) -> None:
    """Whether the server answers, and if not, why not."""
    app.spawn(_ready(app, exchange), "ready")


async def _ready(app: App, exchange: Exchange) -> None:
    state = app.supply.state
    name = "draining" if app.draining else state.name
    if name == "ready" and not await app.keeper.proven():
        # A server that has just ended: in a moment it is known how.
        changed = state.name == "ready" and await state.change(_END_KNOWN_SECONDS)
        name = state.name if changed or state.name != "ready" else "restarting"
    body: dict[str, Any] = {"state": name, "name": app.config.name, "instance": app.config.instance}
    status = 200 if name == "ready" else 503
    if status != 200:
        body["error"] = state.error or f"the server is {name}"
        body["exit_code"] = state.exit.code if state.exit else None
        body["output"] = list(state.tail.lines)
    app.metrics.status(status)
    exchange.reply(status, [codec.encode(body)])


def info(app: App, exchange: Exchange) -> None:
    """What is known of the server, and what is there just now."""
    profile = app.profile
    body = {
        "name": app.config.name,
        "instance": app.config.instance,
        "pid": os.getpid(),
        "version": __version__,
        "isolation": app.config.isolation,
        "server": {key: profile.server.get(key, "") for key in ("name", "version")},
        "protocol_versions": sorted(profile.versions),
        "eras": profile.eras,
        "capabilities": profile.capabilities,
        "tools": profile.tool_digests(),
        **app.counts(),
    }
    exchange.reply(200, [codec.encode(body)])


def metrics(app: App, exchange: Exchange) -> None:
    """Prometheus text."""
    counts = app.counts()
    gauges: dict[str, tuple[str, float]] = {
        "up": ("1 when the server is ready.", float(app.supply.state.name == "ready")),
        "children": ("Server processes.", counts["children"]),
        "sessions": ("Legacy sessions.", counts["sessions"]),
        "in_flight": ("Calls in flight.", counts["in_flight"]),
        "connections": ("Client connections.", len(app.connections)),
        "incoming_bytes": ("Bytes of request bodies that are still coming in.", app.incoming),
        "suspended": ("Calls that wait for their client's input.", len(app.suspended)),
    }
    labels = {"service": app.config.name, "instance": app.config.instance}
    exchange.reply(200, [app.metrics.text(gauges, labels).encode()], TEXT)


ENDPOINTS: Final[dict[bytes, Callable[[App, Exchange], None]]] = {
    b"/health": health,
    b"/ready": ready,
    b"/info": info,
    b"/metrics": metrics,
}
