"""A client's call at a server: its answer goes back to the exchange that it came from.

What passes is the client's own id, the server's own result. A call writes its
progress and its answer to one exchange only, so nothing can reach another caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcpmesh.shim.errors import INTERNAL_ERROR, MODERN_STATUS, Failure, header_lines
from mcpmesh.shim.http.exchange import Exchange, Owner
from mcpmesh.shim.http.head import TRACE, Head
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.server.peer import Call

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

# A result up to this length is looked through as a whole.
ENDS_BYTES: Final = 512
# Longer params are taken apart at once: looking through them without regard to case costs more than that.
SEARCHED_BYTES: Final = 1024
CANCELLED: Final = Failure(INTERNAL_ERROR, "the call was cancelled by its client", {"reason": "cancelled"})


def reply_failure(exchange: Exchange, id: bytes, failure: Failure) -> None:
    """The answer to a request that the shim fails itself."""
    pieces = codec.error_pieces(id, failure.body)
    if exchange.streaming:
        exchange.event(pieces)
        exchange.end()
        return
    exchange.conn.app.metrics.status(failure.status)
    exchange.reply(failure.status, pieces, extra=header_lines(failure))


def needs_rewrite(head: Head, params: codec.Buffer) -> bool:
    """Whether a request has, or may have, what must be changed before its server sees it: False only when it has not.

    A server reports on whatever it takes for a token, and one of a caller's own making is another caller's call there.
    So none may pass: not behind escapes, not in other letters, not as the first of two.
    """
    if head.traced or memoryview(params).nbytes > SEARCHED_BYTES:
        return True
    text = bytes(params).lower()
    return b"progre" in text or b"\\u00" in text


def rewrite(call: RelayCall, params: codec.Buffer, head: Head) -> bytes:
    """Params with the shim's progress token, and with trace context that only the headers had."""
    try:
        whole, meta = translation.parts(params)
    except codec.Malformed:
        # A legacy client's at the server that is its own; a modern request's were looked into before.
        return bytes(params)
    put_meta(call, meta, head)
    return codec.encode({**whole, "_meta": meta} if meta else whole)


def put_meta(call: RelayCall, meta: dict[str, Any], head: Head) -> None:
    """Put the shim's progress token and the headers' trace context into a request's metadata."""
    if (token := meta.get(translation.PROGRESS)) is not None:
        call.token = token
        meta[translation.PROGRESS] = call.id
    if head.traced:
        for key in TRACE:
            name = key.decode()
            if key in head.headers and name not in meta:
                meta[name] = head.headers[key].decode("latin-1")


def with_token(params: codec.Buffer, token: codec.Buffer) -> bytes:
    """A progress notification's params with the caller's own token."""
    return codec.encode({**codec.members(params), translation.PROGRESS: codec.Raw(bytes(token))})


def outcome(method: str, message: Any) -> str:
    """How an answered call is counted; HTTP says 200 for all of these."""
    if not message.result:
        return "error"
    if method == "tools/call":
        view = memoryview(message.result)
        # Where it stands in every known server's answer; parsing a long result for it would cost more than it tells.
        ends = bytes(view) if len(view) <= ENDS_BYTES else bytes(view[:64]) + b" " + bytes(view[-256:])
        if b'"isError":true' in ends:
            return "tool_error"
    return "ok"


class RelayCall(Call, Owner):
    """One request of one client."""

    __slots__ = ("app", "client_id", "era", "exchange", "method", "token")

    def __init__(self, app: App, exchange: Exchange, client_id: bytes, method: str, era: str) -> None:
        self.id = 0
        self.app = app
        self.exchange = exchange
        self.client_id = client_id
        self.method = method
        self.era = era
        self.token: codec.Buffer | None = None
        exchange.owner = self

    def answered(self, message: Any) -> None:
        exchange = self.exchange
        self.app.metrics.call(self.era, self.method, outcome(self.method, message), self.app.now() - exchange.started)
        if message.result:
            self.deliver(200, codec.result_pieces(self.client_id, message.result))
        else:
            self.deliver(200, codec.error_pieces(self.client_id, message.error))

    def deliver(self, status: int, pieces: list[codec.Buffer]) -> None:
        """The last message of the exchange."""
        if self.exchange.streaming:
            self.exchange.event(pieces)
            self.exchange.end()
        else:
            self.exchange.reply(status, pieces)

    def failed(self, failure: Failure) -> None:
        self.count("cancelled" if failure is CANCELLED else "failed")
        reply_failure(self.exchange, self.client_id, failure)

    def count(self, outcome: str) -> None:
        """For the metrics."""
        self.app.metrics.call(self.era, self.method, outcome, self.app.now() - self.exchange.started)

    def progressed(self, params: codec.Buffer) -> None:
        if self.token is not None and self.exchange.live:
            self.exchange.event([codec.notification("notifications/progress", with_token(params, self.token))])


def status_of(error: codec.Buffer) -> int:
    """The HTTP status that a JSON-RPC error travels with in the modern era."""
    try:
        code = codec.value(codec.members(error)["code"])
    except (codec.Malformed, KeyError):
        return 200
    return MODERN_STATUS.get(code, 200) if isinstance(code, int) else 200


def timed_out(seconds: float) -> Failure:
    """What a caller is told whose call took longer than request_seconds."""
    return Failure(
        INTERNAL_ERROR,
        f"the server did not answer within {seconds:g} s (request_seconds) and was told to stop; "
        "the call may have taken effect",
        {"reason": "timeout", "started": True},
    )
