"""Many callers over few processes: where a call goes.

Calls are multiplexed. A call of which it is known that its server asks its
client something gets a process without other calls that could be asked, where
isolation allows more than one, so that the question finds its caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcpmesh.shim.calls.client_call import needs_rewrite, put_meta, rewrite
from mcpmesh.shim.calls.input_required import InputCall, retried
from mcpmesh.shim.calls.modern_to_legacy import TranslatedCall
from mcpmesh.shim.calls.multiplexed_call import CallerCall, ModernCall
from mcpmesh.shim.calls.server_request_history import Askers
from mcpmesh.shim.errors import Failure, unavailable
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.http.head import Head
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import modern_request, translation
from mcpmesh.shim.protocol.server_info import SUPPORTED
from mcpmesh.shim.server.peer import Child
from mcpmesh.shim.server.pool import Use

if TYPE_CHECKING:
    from mcpmesh.shim.app import App


class Kept:
    """Sends calls to kept processes."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.askers = Askers()
        self.waiting = 0
        self.own_states = bool(app.config.affinity) or app.config.isolation == "request"
        """Whether a modern server's requestState is given out changed, so that its retry comes back here."""

    # Modern clients.

    def call(self, exchange: Exchange, head: Head, message: Any, meta: modern_request.Meta) -> None:
        """A modern client's request; raises Failure when nothing was sent."""
        id = codec.id_json(message.id)
        if not self.app.profile.modern:
            self._translated(exchange, head, message, meta, id)
            return
        params, child = message.params, None
        if self.own_states and message.method in translation.MAY_ASK:
            call: ModernCall = InputCall(self.app, exchange, id, message.method, params)
            if b'"requestState"' in bytes(params):
                params, child = retried(self.app, message.method, params)
        else:
            call = ModernCall(self.app, exchange, id, message.method)
        call.log_level = meta.log_level or None

        def send(child: Child) -> None:
            self._send_modern(child, call, head, params)

        if child is not None:
            self._put(call, child, Use.SHARED, send)
        else:
            self.place(call, send)

    def _send_modern(self, child: Child, call: ModernCall, head: Head, params: codec.Buffer) -> None:
        child.reserve(call)
        if needs_rewrite(head, params):
            params = rewrite(call, params, head)
        child.process.write(codec.request(call.id, call.method, params))

    def _translated(self, exchange: Exchange, head: Head, message: Any, meta: modern_request.Meta, id: bytes) -> None:
        params, inner = translation.split(message.params)
        if "requestState" in params and self._retry(exchange, message.method, params, inner, id):
            return
        capabilities = codec.value(meta.capabilities)
        call = TranslatedCall(self.app, exchange, id, message.method, params, capabilities)
        call.log_level = meta.log_level or None

        def send(child: Child) -> None:
            child.reserve(call)
            put_meta(call, inner, head)
            child.process.write(codec.request(call.id, message.method, translation.strip(params, inner)))

        self.place(call, send)

    def _retry(self, exchange: Exchange, method: str, params: dict[str, Any], meta: dict[str, Any], id: bytes) -> bool:
        """Go on with a suspended call; False when the request is to be sent as a new one."""
        state = codec.value(params["requestState"])
        if not isinstance(state, str):
            raise modern_request.invalid("requestState must be a text")
        try:
            answers = codec.members(params.get("inputResponses", b"{}"))
        except codec.Malformed:
            raise modern_request.invalid("inputResponses must be an object") from None
        call = self.app.suspended.take(state, method, params)
        if not isinstance(call, TranslatedCall):
            return False
        call.resume(exchange, id, meta.get("progressToken"), answers)
        return True

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
            result["_meta"] = {codec.SERVER_INFO_KEY: profile.server}
        return result

    # Any caller.

    def place(self, call: CallerCall, send: Callable[[Child], None]) -> None:
        """Send a call to a process, at once where one is free. Raises Failure when nothing was sent."""
        use = self._use(call)
        child = self.app.supply.pick(use)
        if child is not None:
            self._put(call, child, use, send)
            return
        self.wait()
        self.app.spawn(self._place_later(call, use, send), "wait for a server")

    def wait(self) -> None:
        """One more call waits for a process; raises Failure when too many do."""
        if self.waiting >= self.app.limits.waiting:
            raise unavailable(f"cannot take the call: {self.waiting} wait for a server already", "busy")
        self.waiting += 1

    def _use(self, call: CallerCall) -> Use:
        if not call.may_ask:
            return Use.PLAIN
        if not call.askable:
            return Use.SHARED
        return Use.ALONE if call.subject in self.askers else Use.ASKABLE

    def _put(self, call: CallerCall, child: Child, use: Use, send: Callable[[Child], None]) -> None:
        call.child = child
        if use is Use.ALONE and use.fits(child):
            child.lease = call
        try:
            send(child)
        except Failure:
            call.release()
            raise

    async def _place_later(self, call: CallerCall, use: Use, send: Callable[[Child], None]) -> None:
        try:
            child = await self.app.supply.obtain(use)
            if call.exchange.live:
                self._put(call, child, use, send)
            else:
                self.app.supply.released(child)
                call.dropped()
        except Failure as failure:
            if call.exchange.live:
                call.failed(failure)
            else:
                call.dropped()
        finally:
            self.waiting -= 1
