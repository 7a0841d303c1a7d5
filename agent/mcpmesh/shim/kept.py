"""Calls of many callers over the process that is kept for everybody.

Modern requests come with all that they need, so they are multiplexed: each has
the shim's own id and progress token at the server. For a server of the older
protocol the modern envelope is taken off on the way in and put on on the way
out (`resultType`, cache hints, the server's identity, error codes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcpmesh.shim import modern, wire
from mcpmesh.shim.child import Child
from mcpmesh.shim.head import Head
from mcpmesh.shim.http import Exchange
from mcpmesh.shim.process import Exit
from mcpmesh.shim.profile import SUPPORTED
from mcpmesh.shim.relay import ModernCall

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

CACHED: Final = frozenset(
    ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read")
)
ENVELOPE: Final = (wire.VERSION_KEY, wire.CAPABILITIES_KEY, wire.CLIENT_INFO_KEY, wire.LOG_LEVEL_KEY)


class TranslatedCall(ModernCall):
    """A call of a modern client at a legacy server."""

    __slots__ = ()

    def answered(self, message: Any) -> None:
        if message.result:
            message.result = dress(message.result, self.method, self.app.profile.server)
        super().answered(message)

    def error(self, error: wire.Buffer) -> wire.Buffer:
        # -32002 was "resource not found"; this revision says -32602.
        if b"-32002" not in bytes(error):
            return error
        whole = wire.value(error)
        if isinstance(whole, dict) and whole.get("code") == -32002:
            whole["code"] = -32602
            return wire.encode(whole)
        return error


def dress(result: wire.Buffer, method: str, server: dict[str, Any]) -> bytes:
    """A legacy result with what a modern one must have, put in front so that the rest stays as it came."""
    raw = bytes(result).lstrip()
    if not raw.startswith(b"{"):
        return raw
    front = b'{"resultType":"complete"'
    if method in CACHED:
        # Nothing is known of its freshness or of who may see it.
        front += b',"ttlMs":0,"cacheScope":"private"'
    if server and b'"_meta"' not in raw:
        front += b',"_meta":' + wire.encode({wire.SERVER_INFO_KEY: server})
    return front + (b"" if raw[1:].lstrip()[:1] == b"}" else b",") + raw[1:]


class Kept:
    """Hears the kept process, and sends it calls."""

    def __init__(self, app: App) -> None:
        self.app = app

    def call(self, exchange: Exchange, head: Head, message: Any, meta: modern.Meta, child: Child) -> None:
        """Send a modern request; raises Failure when nothing was sent."""
        id = wire.id_json(message.id)
        if message.method == "server/discover":
            exchange.reply(200, wire.result_pieces(id, wire.encode(self.discovered())))
            return
        if child.modern:
            call: ModernCall = ModernCall(self.app, exchange, id, message.method, child)
            child.reserve(call)
            params = message.params
            if head.traced or meta.progress_token is not wire.UNSET:
                params = self.app.rewrite(call, params, head)
        else:
            call = TranslatedCall(self.app, exchange, id, message.method, child)
            child.reserve(call)
            params = strip(self.app.rewrite(call, message.params, head))
        child.process.write(wire.request(call.id, message.method, params))

    def discovered(self) -> dict[str, Any]:
        """The discover result: the server's abilities, both eras."""
        profile = self.app.profile
        own = profile.discovered
        capabilities = {key: item for key, item in profile.capabilities.items() if key != "tasks"}
        result: dict[str, Any] = {
            "resultType": "complete",
            "supportedVersions": list(SUPPORTED),
            "capabilities": capabilities,
            "ttlMs": own.get("ttlMs", 0),
            "cacheScope": own.get("cacheScope", "private"),
        }
        if profile.instructions is not None:
            result["instructions"] = profile.instructions
        if profile.server:
            result["_meta"] = {wire.SERVER_INFO_KEY: profile.server}
        return result

    # From the server.

    def asked(self, child: Child, message: Any) -> None:
        if message.method == "ping":
            child.answer(message.id, b"{}")
        elif message.method == "roots/list":
            child.answer(message.id, b'{"roots":[]}')
        else:
            self.app.metrics.count("refused_requests")
            child.refuse(message.id, -32601, f"nobody can be asked for {message.method} here")

    def notified(self, _child: Child, message: Any) -> None:
        self.app.profile_notified(message.method)

    def ended(self, _child: Child, _exit: Exit) -> None:
        """The supply starts another."""


def strip(params: bytes) -> bytes:
    """Params without the modern envelope, which some legacy servers refuse."""
    whole = wire.members(params) if params else {}
    if "_meta" not in whole:
        return params
    meta = {key: item for key, item in wire.members(whole["_meta"]).items() if key not in ENVELOPE}
    if meta:
        whole["_meta"] = wire.Raw(wire.encode(meta))
    else:
        del whole["_meta"]
    return wire.encode(whole) if whole else b""
