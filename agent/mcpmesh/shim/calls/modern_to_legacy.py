"""A modern client's call at a legacy server, which may send its client a request while it works.

Then the call is suspended and the client gets `input_required`; the client's
retry with the answers continues the call (2026-07-28/basic/patterns/mrtr.mdx).
"""

from __future__ import annotations

from typing import Any, Final

from mcpmesh.shim.calls.call_context import CallContext
from mcpmesh.shim.calls.client_call import outcome
from mcpmesh.shim.calls.multiplexed_call import ModernCall
from mcpmesh.shim.calls.server_request_history import Target
from mcpmesh.shim.errors import INTERNAL_ERROR, METHOD_NOT_FOUND, MISSING_CAPABILITY, Failure, answer_lost
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.server.peer import Peer

# Requests that a server sends at once arrive within this time (seconds) and go to the client in one answer.
GATHER_SECONDS: Final = 0.01


class ModernToLegacyCall(ModernCall):
    """A call of a modern client at a legacy server."""

    __slots__ = ("capabilities", "early_outcome", "flush_due", "missing", "params", "server_requests")

    def __init__(
        self,
        call_context: CallContext,
        exchange: Exchange,
        client_id: bytes,
        method: str,
        params: dict[str, Any],
        capabilities: dict[str, Any],
    ) -> None:
        """`params` are the members of the request's params, `capabilities` are the client's."""
        super().__init__(call_context, exchange, client_id, method)
        self.capabilities = capabilities
        self.params = params
        self.server_requests: dict[str, Any] = {}
        """The server's requests that the client has not answered, by their key in `inputRequests`."""
        self.flush_due = False
        self.missing: tuple[dict[str, Any], str] | None = None
        """A capability that the server needed and the client lacks, and the method of the server's request."""
        self.early_outcome: Any = None
        """An answer, or a Failure, that came while the call was suspended."""

    @property
    def can_ask_client(self) -> bool:
        return bool(self.capabilities) and self.method in translation.INPUT_METHODS

    @property
    def target(self) -> Target:
        return self.method, bytes(self.params.get("name") or self.params.get("uri") or b"")

    @property
    def _suspended(self) -> bool:
        return not self.exchange.live and self.call_context.suspended.holds(self)

    def answered(self, message: Any) -> None:
        if not self.led_to_server_request and self.call_context.history:
            self.call_context.history.clear(self.target)
        if self.missing is not None and outcome(self.method, message) != "ok":
            # The server could not work without it.
            self.failed(_missing_capability(*self.missing))
            return
        if message.result:
            identity = self.call_context.server_info.identity
            message.result = codec.Raw(translation.to_modern_result(message.result, self.method, identity))
        elif (requests := self._url_elicitations(message.error)) is not None:
            self._ask_to_visit(requests)
            return
        else:
            message.error = codec.Raw(bytes(translation.to_modern_error(message.error)))
        if self._suspended:
            self.early_outcome = message
            self.release()
            return
        super().answered(message)

    def failed(self, failure: Failure) -> None:
        if self._suspended:
            self.early_outcome = failure
            self.release()
            return
        super().failed(failure)

    def server_request(self, peer: Peer, message: Any) -> None:
        missing = translation.missing_capability(message.method, message.params, self.capabilities)
        if message.method == "roots/list" and missing:
            peer.answer_from_shim(message.id, translation.NO_ROOTS)
        elif missing is not None or self.method not in translation.INPUT_METHODS:
            self.context.metrics.count("refused_requests")
            peer.refuse(message.id, METHOD_NOT_FOUND, f"the client can't be asked for {message.method} here")
            if missing and self.missing is None:
                self.missing = missing, message.method
        else:
            self.call_context.history.record(self.target)
            self.server_requests[f"r{codec.id_json(message.id).decode()}"] = message
            if peer.lease is None and self.context.config.isolation == "session":
                peer.lease = self
            self._flush_soon()

    # The error of 2025-11-25 "first visit these addresses", which the modern era expresses as input.

    def _url_elicitations(self, error: codec.Buffer) -> dict[str, Any] | None:
        if self.method not in translation.INPUT_METHODS:
            return None
        return translation.url_elicitations(error)

    def _ask_to_visit(self, requests: dict[str, Any]) -> None:
        missing = translation.missing_capability("elicitation/create", b'{"mode":"url"}', self.capabilities)
        if missing:
            self.failed(_missing_capability(missing, "elicitation/create"))
            return
        self.release()
        if self.exchange.live:
            state = self.call_context.suspended.state_for_new_call(self.method, self.params)
            self._require_input(requests, state)

    def _flush_soon(self) -> None:
        """Ask the client, once for all requests that the server sends at once."""
        if not self.flush_due:
            self.flush_due = True
            self.context.later(GATHER_SECONDS, self._flush)

    def _flush(self) -> None:
        self.flush_due = False
        if not self.server_requests or not self.exchange.live:
            return
        state = self.call_context.suspended.suspend(self, self.method, self.params)
        if state is None:
            self.cancel("too many calls wait for input")
            self.failed(answer_lost("too many calls wait for input (limits.suspended); the call was cancelled", "busy"))
            return
        requests = {
            key: {"method": message.method, **({"params": message.params} if message.params else {})}
            for key, message in self.server_requests.items()
        }
        self._require_input(requests, state)

    def _require_input(self, requests: dict[str, Any], state: str) -> None:
        result = {"resultType": "input_required", "inputRequests": requests, "requestState": state}
        self.count("input_required")
        self.deliver(200, codec.result_pieces(self.client_id, codec.encode(result)))

    def resume(
        self, exchange: Exchange, client_id: bytes, progress_token: codec.Buffer | None, answers: dict[str, Any]
    ) -> None:
        """The client's retry: its answers go to the server, and the call's answer goes to the retry's exchange."""
        self.exchange = exchange
        self.client_id = client_id
        exchange.responder = self
        if progress_token is not None:
            self.progress_token = progress_token
        if self.early_outcome is not None:
            early_outcome, self.early_outcome = self.early_outcome, None
            if isinstance(early_outcome, Failure):
                super().failed(early_outcome)
            else:
                super().answered(early_outcome)
            return
        assert self.peer is not None
        for key, result in answers.items():
            # Anything but an object is no answer: the client is asked again.
            if key in self.server_requests and bytes(result).startswith(b"{"):
                self.peer.answer(self.server_requests.pop(key).id, result)
        if self.server_requests:
            self._flush_soon()

    def obstacle(self) -> Failure | None:
        # An early outcome needs no server.
        return self.peer.stall() if self.peer is not None and self.early_outcome is None else None

    def abandon(self, reason: str) -> None:
        """The client did not come back in time."""
        self.cancel(reason)

    def cancel(self, reason: str) -> None:
        if self.peer is not None:
            # A server that goes on nevertheless must not wait for answers that will not come.
            for message in self.server_requests.values():
                self.peer.refuse(message.id, INTERNAL_ERROR, reason)
        self.server_requests.clear()
        super().cancel(reason)


def _missing_capability(capability: dict[str, Any], method: str) -> Failure:
    return Failure(
        MISSING_CAPABILITY,
        f"the call needs a client that can be asked for {method}",
        {"requiredCapabilities": capability},
        status=400,
    )
