"""Sends the calls of many callers to few server processes.

Calls are multiplexed. A call that is known to make the server ask the client
gets a process without other calls that could be asked, if the isolation allows
more than one process; so the server request finds its caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcpmesh.shim.calls.call_context import CallContext
from mcpmesh.shim.calls.client_call import fill_meta, needs_rewrite, rewrite
from mcpmesh.shim.calls.input_required import InputRequiredCall, retry_params
from mcpmesh.shim.calls.modern_to_legacy import ModernToLegacyCall
from mcpmesh.shim.calls.multiplexed_call import ModernCall, MultiplexedCall
from mcpmesh.shim.errors import Failure, unavailable
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.http.request_head import Head
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.protocol.modern_request import RequestMeta, invalid_params
from mcpmesh.shim.server.peer import Peer
from mcpmesh.shim.server.placement import Placement


class Dispatcher:
    """Chooses a process for each call, and sends the call or lets it wait."""

    def __init__(self, call_context: CallContext) -> None:
        config = call_context.context.config
        self.call_context = call_context
        self.context = call_context.context
        self.pool = call_context.pool
        self.server_info = call_context.server_info
        self.history = call_context.history
        self.suspended = call_context.suspended
        self.max_waiting = call_context.context.limits.waiting
        self.waiting = 0
        """Calls that wait for a process."""
        self.replaces_states = bool(config.affinity) or config.isolation == "request"
        """Whether a modern server's requestState is changed on its way out, so that the retry comes back here."""

    # Modern clients.

    def send_modern(self, exchange: Exchange, head: Head, message: Any, meta: RequestMeta) -> None:
        """Send a modern client's request; raises Failure when nothing was sent."""
        id = codec.id_json(message.id)
        if not self.server_info.modern:
            self._send_to_legacy(exchange, head, message, meta, id)
            return
        params, peer = message.params, None
        if self.replaces_states and message.method in translation.INPUT_METHODS:
            call: ModernCall = InputRequiredCall(self.call_context, exchange, id, message.method, params)
            if b'"requestState"' in bytes(params):
                params, peer = retry_params(self.call_context, message.method, params)
        else:
            call = ModernCall(self.call_context, exchange, id, message.method)
        call.log_level = meta.log_level or None

        def send(peer: Peer) -> None:
            self._write_modern(peer, call, head, params)

        if peer is not None:
            self._send_to(peer, call, Placement.SHARED, send)
        else:
            self.dispatch(call, send)

    def _write_modern(self, peer: Peer, call: ModernCall, head: Head, params: codec.Buffer) -> None:
        peer.register(call)
        if needs_rewrite(head, params):
            params = rewrite(call, params, head)
        peer.channel.write(codec.request(call.id, call.method, params))

    def _send_to_legacy(self, exchange: Exchange, head: Head, message: Any, meta: RequestMeta, id: bytes) -> None:
        params, request_meta = translation.split_meta(message.params)
        if "requestState" in params and self._resume(exchange, message.method, params, request_meta, id):
            return
        capabilities = codec.decode(meta.capabilities)
        call = ModernToLegacyCall(self.call_context, exchange, id, message.method, params, capabilities)
        call.log_level = meta.log_level or None

        def send(peer: Peer) -> None:
            peer.register(call)
            fill_meta(call, request_meta, head)
            legacy_params = translation.to_legacy_params(params, request_meta)
            peer.channel.write(codec.request(call.id, message.method, legacy_params))

        self.dispatch(call, send)

    def _resume(self, exchange: Exchange, method: str, params: dict[str, Any], meta: dict[str, Any], id: bytes) -> bool:
        """Continue a suspended call; returns False when the request is to be sent as a new call."""
        state = codec.decode(params["requestState"])
        if not isinstance(state, str):
            raise invalid_params("requestState must be a text")
        try:
            answers = codec.members(params.get("inputResponses", b"{}"))
        except codec.Malformed:
            raise invalid_params("inputResponses must be an object") from None
        call = self.suspended.take(state, method, params)
        if not isinstance(call, ModernToLegacyCall):
            return False
        call.resume(exchange, id, meta.get("progressToken"), answers)
        return True

    # Any caller.

    def dispatch(self, call: MultiplexedCall, send: Callable[[Peer], None]) -> None:
        """Send a call to a process, at once if one is free. Raises Failure when nothing was sent."""
        placement = self._placement(call)
        peer = self.pool.choose(placement)
        if peer is not None:
            self._send_to(peer, call, placement, send)
            return
        self.add_waiting()
        self.context.spawn(self._dispatch_later(call, placement, send), "wait for a server")

    def add_waiting(self) -> None:
        """Count one more call that waits for a process; raises Failure when too many wait."""
        if self.waiting >= self.max_waiting:
            raise unavailable(f"cannot take the call: {self.waiting} wait for a server already", "busy")
        self.waiting += 1

    def _placement(self, call: MultiplexedCall) -> Placement:
        if not call.may_ask_client:
            return Placement.ANY
        if not call.can_ask_client:
            return Placement.SHARED
        return Placement.EXCLUSIVE if call.target in self.history else Placement.ASKABLE

    def _send_to(self, peer: Peer, call: MultiplexedCall, placement: Placement, send: Callable[[Peer], None]) -> None:
        call.peer = peer
        if placement is Placement.EXCLUSIVE and placement.fits(peer):
            peer.lease = call
        try:
            send(peer)
        except Failure:
            call.release()
            raise

    async def _dispatch_later(self, call: MultiplexedCall, placement: Placement, send: Callable[[Peer], None]) -> None:
        try:
            peer = await self.pool.obtain(placement)
            if call.exchange.live:
                self._send_to(peer, call, placement, send)
            else:
                self.pool.release(peer)
                call.dropped()
        except Failure as failure:
            if call.exchange.live:
                call.failed(failure)
            else:
                call.dropped()
        finally:
            self.waiting -= 1
