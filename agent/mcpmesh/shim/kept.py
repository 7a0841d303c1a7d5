"""Many callers over few processes: where a call goes, and whom a server's own words are for.

A server on stdio does not say which call a request or a log message of its own
belongs to. It is passed on only when there is exactly one caller whom it can
concern, and refused or dropped (and counted) otherwise: better not asked than
another's question shown. Calls of servers that were seen to ask get a process
for themselves while they run, where isolation allows more than one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mcpmesh.shim import modern, translate, wire
from mcpmesh.shim.calls import CallerCall, ModernCall, TranslatedCall
from mcpmesh.shim.child import Child
from mcpmesh.shim.failure import Failure, unavailable
from mcpmesh.shim.head import Head
from mcpmesh.shim.http import Exchange
from mcpmesh.shim.process import Exit
from mcpmesh.shim.profile import SUPPORTED
from mcpmesh.shim.relay import needs_rewrite, put_meta, reply_failure, rewrite

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

# After so long (seconds) a cancelled call no longer keeps a lone process from asking its next caller.
GHOST_SECONDS: Final = 60.0


class Kept:
    """Sends calls to kept processes and hears what these say."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.asking: set[tuple[str, bytes]] = set()
        """What was seen to ask its client something."""
        self.waiting = 0

    # Modern clients.

    def call(self, exchange: Exchange, head: Head, message: Any, meta: modern.Meta) -> None:
        """A modern client's request; raises Failure when nothing was sent."""
        id = wire.id_json(message.id)
        if self.app.profile.modern:
            call = ModernCall(self.app, exchange, id, message.method)
            call.log_level = meta.log_level or None
            self.place(call, False, lambda child: self._send_modern(child, call, head, message))
        else:
            self._translated(exchange, head, message, meta, id)

    def _send_modern(self, child: Child, call: ModernCall, head: Head, message: Any) -> None:
        child.reserve(call)
        params = message.params
        if needs_rewrite(head, params):
            params = rewrite(call, params, head)
        child.process.write(wire.request(call.id, message.method, params))

    def _translated(self, exchange: Exchange, head: Head, message: Any, meta: modern.Meta, id: bytes) -> None:
        params, inner = translate.split(message.params)
        if "requestState" in params:
            self._retry(exchange, message.method, params, inner, id)
            return
        capabilities = wire.value(meta.capabilities)
        call = TranslatedCall(self.app, exchange, id, message.method, params, capabilities)
        call.log_level = meta.log_level or None

        def send(child: Child) -> None:
            child.reserve(call)
            put_meta(call, inner, head)
            child.process.write(wire.request(call.id, message.method, translate.strip(params, inner)))

        self.place(call, bool(capabilities) and call.subject in self.asking, send)

    def _retry(self, exchange: Exchange, method: str, params: dict[str, Any], meta: dict[str, Any], id: bytes) -> None:
        state = wire.value(params["requestState"])
        if not isinstance(state, str):
            raise modern.invalid("requestState must be a text")
        try:
            answers = wire.members(params.get("inputResponses", b"{}"))
        except wire.Malformed:
            raise modern.invalid("inputResponses must be an object") from None
        call = self.app.suspended.take(state, method, params)
        call.resume(exchange, id, meta.get("progressToken"), answers)

    def discovered(self) -> dict[str, Any]:
        """The discover result: the server's abilities, both eras."""
        profile = self.app.profile
        own = profile.discovered
        result: dict[str, Any] = {
            "resultType": "complete",
            "supportedVersions": list(SUPPORTED),
            "capabilities": {key: item for key, item in profile.capabilities.items() if key != "tasks"},
            "ttlMs": own.get("ttlMs", 0),
            "cacheScope": own.get("cacheScope", "private"),
        }
        if profile.instructions is not None:
            result["instructions"] = profile.instructions
        if profile.server:
            result["_meta"] = {wire.SERVER_INFO_KEY: profile.server}
        return result

    # Any caller.

    def place(self, call: CallerCall, exclusive: bool, send: Callable[[Child], None]) -> None:
        """Send a call to a process, at once where one is free. Raises Failure when nothing was sent."""
        child = self.app.supply.pick(exclusive)
        if child is not None:
            self._put(call, child, exclusive, send)
            return
        if self.waiting >= self.app.limits.waiting:
            raise unavailable(f"cannot take the call: {self.waiting} wait for a server already", "busy")
        self.app.spawn(self._place_later(call, exclusive, send), "wait for a server")

    def _put(self, call: CallerCall, child: Child, exclusive: bool, send: Callable[[Child], None]) -> None:
        call.child = child
        if exclusive and child.lease is None:
            child.lease = call
        try:
            send(child)
        except Failure:
            call.release()
            raise

    async def _place_later(self, call: CallerCall, exclusive: bool, send: Callable[[Child], None]) -> None:
        self.waiting += 1
        try:
            child = await self.app.supply.obtain(exclusive)
            if call.exchange.live:
                self._put(call, child, exclusive, send)
            else:
                self.app.supply.released(child)
        except Failure as failure:
            reply_failure(call.exchange, call.client_id, failure)
        finally:
            self.waiting -= 1

    # From a server.

    def asked(self, child: Child, message: Any) -> None:
        if message.method == "ping":
            child.answer(message.id, b"{}")
            return
        call = self._only_caller(child)
        if call is not None:
            call.ask(child, message)
        elif message.method == "roots/list":
            child.answer(message.id, b'{"roots":[]}')
        else:
            self._nobody(child, message)

    def _nobody(self, child: Child, message: Any) -> None:
        self.app.metrics.count("refused_requests")
        for call in child.calls.values():
            if isinstance(call, TranslatedCall) and call.capabilities:
                self.asking.add(call.subject)
        reason = "several callers share the process, so it can't be told whom to ask" if child.calls else "no call runs"
        child.refuse(message.id, -32601, f"cannot ask for {message.method}: {reason}")

    def _only_caller(self, child: Child) -> CallerCall | None:
        """The one caller whom a server's own words can concern; None when there are none or several."""
        now = self.app.now()
        alone = self.app.config.isolation == "shared"
        for id, since in list(child.ghosts.items()):
            if alone and now - since > GHOST_SECONDS:
                del child.ghosts[id]
        if child.ghosts:
            return None
        found: CallerCall | None = None
        for call in child.calls.values():
            if isinstance(call, CallerCall):
                if found is not None and found.caller is not call.caller:
                    return None
                found = call
        return found

    def notified(self, child: Child, message: Any) -> None:
        method = message.method
        self.app.server_notified(method)
        if method == "notifications/message":
            self._log(child, message)
        elif not self.app.subscriptions.notified(child, message):
            self.app.metrics.count("dropped_notifications")

    def _log(self, child: Child, message: Any) -> None:
        if child.modern:
            # Only who opted in may be told anything, so only they can be meant.
            wanting = [call for call in child.calls.values() if isinstance(call, CallerCall) and call.log_level]
            call = wanting[0] if len(wanting) == 1 and not child.ghosts else None
        else:
            call = self._only_caller(child)
        if call is not None and call.log_level and self._loud_enough(message.params, call.log_level):
            call.log(message.params)
        else:
            self.app.metrics.count("dropped_notifications")

    @staticmethod
    def _loud_enough(params: wire.Buffer, wanted: str) -> bool:
        levels = modern.LOG_LEVELS
        try:
            level = wire.value(wire.members(params).get("level", b'"info"'))
        except wire.Malformed:
            return False
        return level in levels and levels.index(level) >= levels.index(wanted)

    def ended(self, child: Child, _exit: Exit) -> None:
        self.app.subscriptions.ended(child)
