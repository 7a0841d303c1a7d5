"""A client's call at a server: its answer goes back to the exchange that it came from.

The client's own id and the server's own result are passed on. A call writes its
progress and its answer to one exchange only, so nothing reaches another caller.
"""

from __future__ import annotations

from typing import Any, Final

from mcpmesh.shim.context import Context
from mcpmesh.shim.errors import INTERNAL_ERROR, MODERN_STATUS, Failure
from mcpmesh.shim.http.exchange import Exchange, Responder, reply_failure
from mcpmesh.shim.http.request_head import TRACE, Head
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.protocol.meta_keys import PROGRESS_TOKEN
from mcpmesh.shim.server.peer import PendingRequest

# A result up to this length is searched whole.
SHORT_RESULT_BYTES: Final = 512
# Longer params are decoded at once: a case-insensitive search through them costs more.
SEARCHED_BYTES: Final = 1024
CANCELLED: Final = Failure(INTERNAL_ERROR, "the call was cancelled by its client", {"reason": "cancelled"})


class ClientCall(PendingRequest, Responder):
    """One request of one client."""

    __slots__ = ("client_id", "context", "era", "exchange", "method", "progress_token")
    is_call = True

    def __init__(self, context: Context, exchange: Exchange, client_id: bytes, method: str, era: str) -> None:
        """`client_id` is the id of the client's request, as JSON; `era` is the client's, for the metrics."""
        self.id = 0
        self.context = context
        self.exchange = exchange
        self.client_id = client_id
        self.method = method
        self.era = era
        self.progress_token: codec.Buffer | None = None
        exchange.responder = self

    def answered(self, message: Any) -> None:
        context = self.context
        seconds = context.now() - self.exchange.started
        context.metrics.call(self.era, self.method, outcome(self.method, message), seconds)
        if message.result:
            self.deliver(200, codec.result_pieces(self.client_id, message.result))
        else:
            self.deliver(200, codec.error_pieces(self.client_id, message.error))

    def deliver(self, status: int, pieces: list[codec.Buffer]) -> None:
        """Send the last message of the exchange."""
        if self.exchange.streaming:
            self.exchange.event(pieces)
            self.exchange.end()
        else:
            self.exchange.reply(status, pieces)

    def failed(self, failure: Failure) -> None:
        self.count("cancelled" if failure is CANCELLED else "failed")
        reply_failure(self.exchange, self.client_id, failure)

    def count(self, outcome: str) -> None:
        """Count the call in the metrics."""
        context = self.context
        context.metrics.call(self.era, self.method, outcome, context.now() - self.exchange.started)

    def progressed(self, params: codec.Buffer) -> None:
        if self.progress_token is not None and self.exchange.live:
            own_params = with_progress_token(params, self.progress_token)
            self.exchange.event([codec.notification("notifications/progress", own_params)])


def needs_rewrite(head: Head, params: codec.Buffer) -> bool:
    """Whether a request's params must, or may have to, be changed for the server; False only if certainly not.

    A server reports progress to any token that it finds, and a token that the caller chose is another caller's call
    there. So none may pass, neither behind escapes, nor in other letters, nor as the first of two.
    """
    if head.traced or memoryview(params).nbytes > SEARCHED_BYTES:
        return True
    text = bytes(params).lower()
    return b"progre" in text or b"\\u00" in text


def rewrite(call: ClientCall, params: codec.Buffer, head: Head) -> bytes:
    """The params with the shim's progress token, and with trace context that only the headers had."""
    try:
        whole, meta = translation.split_meta_strictly(params)
    except codec.Malformed:
        # A legacy client at its dedicated server. A modern request's params have been checked before.
        return bytes(params)
    fill_meta(call, meta, head)
    return codec.encode({**whole, "_meta": meta} if meta else whole)


def fill_meta(call: ClientCall, meta: dict[str, Any], head: Head) -> None:
    """Put the shim's progress token and the headers' trace context into a request's `_meta`."""
    if (token := meta.get(PROGRESS_TOKEN)) is not None:
        call.progress_token = token
        meta[PROGRESS_TOKEN] = call.id
    if head.traced:
        for key in TRACE:
            name = key.decode()
            if key in head.headers and name not in meta:
                meta[name] = head.headers[key].decode("latin-1")


def with_progress_token(params: codec.Buffer, token: codec.Buffer) -> bytes:
    """A progress notification's params with the caller's own token."""
    return codec.encode({**codec.members(params), PROGRESS_TOKEN: codec.Raw(bytes(token))})


def outcome(method: str, message: Any) -> str:
    """The metrics' outcome of an answered call; HTTP says 200 for all of them."""
    if not message.result:
        return "error"
    if method == "tools/call":
        view = memoryview(message.result)
        # Every known server writes it near one of the ends; decoding a long result for it would cost too much.
        ends = bytes(view) if len(view) <= SHORT_RESULT_BYTES else bytes(view[:64]) + b" " + bytes(view[-256:])
        if b'"isError":true' in ends:
            return "tool_error"
    return "ok"


def status_of(error: codec.Buffer) -> int:
    """The HTTP status of a JSON-RPC error in the modern era."""
    try:
        code = codec.decode(codec.members(error)["code"])
    except (codec.Malformed, KeyError):
        return 200
    return MODERN_STATUS.get(code, 200) if isinstance(code, int) else 200


def timeout_failure(seconds: float) -> Failure:
    """The failure of a call that took longer than request_seconds."""
    return Failure(
        INTERNAL_ERROR,
        f"the server did not answer within {seconds:g} s (request_seconds) and was told to stop; "
        "the call may have taken effect",
        {"reason": "timeout", "started": True},
    )
