"""A modern server that asks for input: its retry goes on where the first call was.

The official SDK's servers seal their `requestState` with a key that only their
process has, so a retry that reaches another process is refused. Behind the
state stands the address of this instance, as in a session's id; where each call
has a process of its own, that process waits for the retry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcpmesh.shim.calls.multiplexed_call import ModernCall
from mcpmesh.shim.calls.suspended_calls import without_address
from mcpmesh.shim.errors import Failure, lost
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.protocol.modern_request import invalid
from mcpmesh.shim.server.peer import Child

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

STATE: Final = "requestState"
NEEDED: Final = b'"input_required"'
# In a result longer than both together it stands at one of its ends; looking through all of a long one costs a third of
# a millisecond per MiB.
WINDOW_BYTES: Final = 64 * 1024


def asks(result: codec.Buffer) -> bool:
    """Whether a result may be one that asks for input."""
    view = memoryview(result)
    if view.nbytes <= 2 * WINDOW_BYTES:
        return NEEDED in bytes(view)
    return NEEDED in bytes(view[:WINDOW_BYTES]) or NEEDED in bytes(view[-WINDOW_BYTES:])


class Paused:
    """A process that asked for input, and the state that it gave; kept for the retry alone."""

    def __init__(self, app: App, child: Child, state: codec.Buffer) -> None:
        self.app = app
        self.child = child
        self.state = state

    def hindered(self) -> Failure | None:
        """The process can't take the retry."""
        return self.child.full()

    def abandon(self, _reason: str) -> None:
        """The client did not come back in time."""
        self.app.supply.released(self.child)


class InputCall(ModernCall):
    """A call of a modern client at a modern server that may ask for input."""

    __slots__ = ("params",)

    def __init__(self, app: App, exchange: Exchange, client_id: bytes, method: str, params: codec.Buffer) -> None:
        super().__init__(app, exchange, client_id, method)
        self.params = params

    def answered(self, message: Any) -> None:
        if message.result and asks(message.result):
            result = codec.members(message.result)
            if bytes(result.get("resultType", b"")) == NEEDED and bytes(result.get(STATE, b"")).startswith(b'"'):
                self._give_state(message, result)
                return
        super().answered(message)

    def _give_state(self, message: Any, result: dict[str, Any]) -> None:
        suspended = self.app.suspended
        if self.app.config.isolation != "request":
            state: str | None = codec.value(result[STATE]) + suspended.address
        else:
            assert self.child is not None
            paused = Paused(self.app, self.child, result[STATE])
            state = suspended.hold(paused, self.method, translation.split(self.params)[0])
            if state is None:
                self.failed(lost("too many calls wait for input (limits.suspended)", "busy"))
                return
            self.child = None  # not released: it waits
        message.result = codec.Raw(codec.encode({**result, STATE: state}))
        super().answered(message)


def retried(app: App, method: str, params: codec.Buffer) -> tuple[codec.Buffer, Child | None]:
    """A retry's params as the server knows them, and the process that waits for it; raises Failure."""
    whole, _ = translation.split(params)
    state = codec.value(whole[STATE]) if STATE in whole else None
    if not isinstance(state, str):
        return params, None
    if app.config.isolation != "request":
        return codec.encode({**whole, STATE: without_address(state)}), None
    paused = app.suspended.take(state, method, whole)
    if not isinstance(paused, Paused) or not paused.child.alive:
        raise invalid("requestState has lapsed; send the request again without it")
    return codec.encode({**whole, STATE: paused.state}), paused.child
