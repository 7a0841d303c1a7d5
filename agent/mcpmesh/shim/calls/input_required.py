"""A modern server that asks for input: the client's retry continues where the first call stopped.

The official SDK's servers seal their `requestState` with a key that only their
process has, so a retry that reaches another process is refused. Therefore the
address of this instance is appended to the state, as to a session's id; and in
request isolation the call's process waits for the retry.
"""

from __future__ import annotations

from typing import Any, Final

from mcpmesh.shim.calls.call_context import CallContext
from mcpmesh.shim.calls.multiplexed_call import ModernCall
from mcpmesh.shim.calls.suspended_calls import without_address
from mcpmesh.shim.errors import Failure, answer_lost
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.protocol.modern_request import invalid_params
from mcpmesh.shim.server.peer import Peer
from mcpmesh.shim.server.pool import Pool

STATE: Final = "requestState"
INPUT_REQUIRED: Final = b'"input_required"'
# In a longer result the marker is near one of the ends; searching a long result whole costs a third of a millisecond
# per MiB.
WINDOW_BYTES: Final = 64 * 1024


def may_require_input(result: codec.Buffer) -> bool:
    """Whether a result may be one that asks for input."""
    view = memoryview(result)
    if view.nbytes <= 2 * WINDOW_BYTES:
        return INPUT_REQUIRED in bytes(view)
    return INPUT_REQUIRED in bytes(view[:WINDOW_BYTES]) or INPUT_REQUIRED in bytes(view[-WINDOW_BYTES:])


class SuspendedPeer:
    """A process that asked for input, with the state that it gave. It is kept for the retry alone."""

    def __init__(self, pool: Pool, peer: Peer, state: codec.Buffer) -> None:
        self.pool = pool
        self.peer = peer
        self.state = state

    def obstacle(self) -> Failure | None:
        return self.peer.overload()

    def abandon(self, _reason: str) -> None:
        self.pool.release(self.peer)


class InputRequiredCall(ModernCall):
    """A call of a modern client at a modern server that may ask for input."""

    __slots__ = ("params",)

    def __init__(
        self, call_context: CallContext, exchange: Exchange, client_id: bytes, method: str, params: codec.Buffer
    ) -> None:
        super().__init__(call_context, exchange, client_id, method)
        self.params = params

    def answered(self, message: Any) -> None:
        if message.result and may_require_input(message.result):
            result = codec.members(message.result)
            asks = bytes(result.get("resultType", b"")) == INPUT_REQUIRED
            if asks and bytes(result.get(STATE, b"")).startswith(b'"'):
                self._replace_state(message, result)
                return
        super().answered(message)

    def _replace_state(self, message: Any, result: dict[str, Any]) -> None:
        suspended = self.call_context.suspended
        if self.context.config.isolation != "request":
            state: str | None = codec.decode(result[STATE]) + suspended.address
        else:
            assert self.peer is not None
            waiting = SuspendedPeer(self.call_context.pool, self.peer, result[STATE])
            state = suspended.suspend(waiting, self.method, translation.split_meta(self.params)[0])
            if state is None:
                self.failed(answer_lost("too many calls wait for input (limits.suspended)", "busy"))
                return
            self.peer = None  # not released: it waits for the retry
        message.result = codec.Raw(codec.encode({**result, STATE: state}))
        super().answered(message)


def retry_params(call_context: CallContext, method: str, params: codec.Buffer) -> tuple[codec.Buffer, Peer | None]:
    """A retry's params with the server's own state, and the process that waits for it, if any; raises Failure."""
    whole, _ = translation.split_meta(params)
    state = codec.decode(whole[STATE]) if STATE in whole else None
    if not isinstance(state, str):
        return params, None
    if call_context.context.config.isolation != "request":
        return codec.encode({**whole, STATE: without_address(state)}), None
    waiting = call_context.suspended.take(state, method, whole)
    if not isinstance(waiting, SuspendedPeer) or not waiting.peer.alive:
        raise invalid_params("requestState has lapsed; send the request again without it")
    return codec.encode({**whole, STATE: waiting.state}), waiting.peer
