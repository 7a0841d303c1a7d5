"""A modern client's call at a legacy server, which may ask its client something in the middle of it.

Then the call is suspended, the client gets `input_required`, and its retry with
the answers goes on where the call stood (2026-07-28/basic/patterns/mrtr.mdx).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcpmesh.shim.calls.client_call import outcome
from mcpmesh.shim.calls.multiplexed_call import ModernCall
from mcpmesh.shim.errors import INTERNAL_ERROR, METHOD_NOT_FOUND, MISSING_CAPABILITY, Failure, lost
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.server.peer import Child

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

# Questions that a server asks side by side come within this (seconds) and are put to the client in one answer.
GATHER_SECONDS: Final = 0.01


class TranslatedCall(ModernCall):
    """A call of a modern client at a legacy server."""

    __slots__ = ("asks", "capabilities", "lacked", "outcome", "params", "scheduled")

    def __init__(
        self,
        app: App,
        exchange: Exchange,
        client_id: bytes,
        method: str,
        params: dict[str, Any],
        capabilities: dict[str, Any],
    ) -> None:
        """`params` are the members of the request's, `capabilities` the client's."""
        super().__init__(app, exchange, client_id, method)
        self.capabilities = capabilities
        self.params = params
        self.asks: dict[str, Any] = {}
        self.scheduled = False
        self.lacked: tuple[dict[str, Any], str] | None = None
        """What the server asked for and the client can't be asked: the capability, and the method."""
        self.outcome: Any = None

    @property
    def askable(self) -> bool:
        return bool(self.capabilities) and self.method in translation.MAY_ASK

    @property
    def subject(self) -> tuple[str, bytes]:
        return self.method, bytes(self.params.get("name") or self.params.get("uri") or b"")

    def answered(self, message: Any) -> None:
        if not self.asked and self.app.kept.askers:
            self.app.kept.askers.cleared(self.subject)
        if self.lacked is not None and outcome(self.method, message) != "ok":
            # The server could not do without.
            self.failed(self._lacks(*self.lacked))
            return
        if message.result:
            message.result = codec.Raw(translation.dress(message.result, self.method, self.app.profile.server))
        elif (requests := self._visits(message.error)) is not None:
            self._visit_first(requests)
            return
        else:
            message.error = codec.Raw(bytes(translation.modern_error(message.error)))
        if not self.exchange.live and self.app.suspended.holds(self):
            self.outcome = message
            self.release()
            return
        super().answered(message)

    def failed(self, failure: Failure) -> None:
        if not self.exchange.live and self.app.suspended.holds(self):
            self.outcome = failure
            self.release()
            return
        super().failed(failure)

    def ask(self, child: Child, message: Any) -> None:
        lacks = translation.lacking(message.method, message.params, self.capabilities)
        if message.method == "roots/list" and lacks:
            child.answer_itself(message.id, translation.NO_ROOTS)
        elif lacks is not None or self.method not in translation.MAY_ASK:
            self.app.metrics.count("refused_requests")
            child.refuse(message.id, METHOD_NOT_FOUND, f"the client can't be asked for {message.method} here")
            if lacks and self.lacked is None:
                self.lacked = lacks, message.method
        else:
            self.app.kept.askers.seen(self.subject)
            self.asks[f"r{codec.id_json(message.id).decode()}"] = message
            if child.lease is None and self.app.config.isolation == "session":
                child.lease = self
            self.flush_soon()

    def _lacks(self, capability: dict[str, Any], method: str) -> Failure:
        return Failure(
            MISSING_CAPABILITY,
            f"the call needs a client that can be asked for {method}",
            {"requiredCapabilities": capability},
            status=400,
        )

    # The older protocol's error "first visit these addresses", which this revision words as input.

    def _visits(self, error: codec.Buffer) -> dict[str, Any] | None:
        if self.method not in translation.MAY_ASK:
            return None
        return translation.visits(error)

    def _visit_first(self, requests: dict[str, Any]) -> None:
        lacks = translation.lacking("elicitation/create", b'{"mode":"url"}', self.capabilities)
        if lacks:
            self.failed(self._lacks(lacks, "elicitation/create"))
            return
        self.release()
        if self.exchange.live:
            self._input_required(requests, self.app.suspended.again(self.method, self.params))

    def flush_soon(self) -> None:
        """Ask the client for all that the server asks at once."""
        if not self.scheduled:
            self.scheduled = True
            self.app.later(GATHER_SECONDS, self._flush)

    def _flush(self) -> None:
        self.scheduled = False
        if not self.asks or not self.exchange.live:
            return
        state = self.app.suspended.hold(self, self.method, self.params)
        if state is None:
            self._cancel("too many calls wait for input")
            self.failed(lost("too many calls wait for input (limits.suspended); the call was cancelled", "busy"))
            return
        requests = {
            key: {"method": message.method, **({"params": message.params} if message.params else {})}
            for key, message in self.asks.items()
        }
        self._input_required(requests, state)

    def _input_required(self, requests: dict[str, Any], state: str) -> None:
        result = {"resultType": "input_required", "inputRequests": requests, "requestState": state}
        self.count("input_required")
        self.deliver(200, codec.result_pieces(self.client_id, codec.encode(result)))

    def resume(self, exchange: Exchange, client_id: bytes, token: codec.Buffer | None, answers: dict[str, Any]) -> None:
        """The client's retry: its answers go to the server, the call's answer to the retry's exchange."""
        self.exchange = exchange
        self.client_id = client_id
        exchange.owner = self
        if token is not None:
            self.token = token
        if self.outcome is not None:
            outcome, self.outcome = self.outcome, None
            if isinstance(outcome, Failure):
                super().failed(outcome)
            else:
                super().answered(outcome)
            return
        assert self.child is not None
        for key, result in answers.items():
            # What is no object is no answer: it is asked for again.
            if key in self.asks and bytes(result).startswith(b"{"):
                self.child.answer(self.asks.pop(key).id, result)
        if self.asks:
            self.flush_soon()

    def hindered(self) -> Failure | None:
        # What came meanwhile needs no server.
        return self.child.stalled() if self.child is not None and self.outcome is None else None

    def abandon(self, reason: str) -> None:
        """The client did not come back in time."""
        self._cancel(reason)

    def _cancel(self, reason: str) -> None:
        if self.child is not None:
            # A server that goes on all the same must not wait for answers that nobody will give.
            for message in self.asks.values():
                self.child.refuse(message.id, INTERNAL_ERROR, reason)
        self.asks.clear()
        super()._cancel(reason)
