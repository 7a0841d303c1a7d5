"""Modern clients' calls at a process that is kept for everybody.

`ModernCall` is for a modern server: bytes pass, the error's code sets the
status. `TranslatedCall` is for a legacy one, which may ask its client something
in the middle of a call: then the call is suspended, the client gets
`input_required`, and its retry with the answers goes on where the call stood
(2026-07-28/basic/patterns/mrtr.mdx).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcpmesh.shim import translate, wire
from mcpmesh.shim.child import Child
from mcpmesh.shim.failure import MISSING_CAPABILITY, Failure
from mcpmesh.shim.http import Exchange
from mcpmesh.shim.modern import LOG_LEVELS
from mcpmesh.shim.relay import RelayCall, reply_failure, status_of, timed_out

if TYPE_CHECKING:
    from mcpmesh.shim.app import App


# Questions that a server asks side by side come within this (seconds) and are put to the client in one answer.
GATHER_SECONDS: Final = 0.01


class CallerCall(RelayCall):
    """A call at a shared process: knows who its caller is, and takes what the server says to that caller."""

    __slots__ = ("child", "log_level")

    def __init__(self, app: App, exchange: Exchange, client_id: bytes, method: str, era: str) -> None:
        super().__init__(app, exchange, client_id, method, era)
        self.child: Child | None = None
        self.log_level: str | None = None

    @property
    def caller(self) -> object:
        """The same for all calls of one client, as far as that is known."""
        return self

    @property
    def askable(self) -> bool:
        """Whether its client can be asked anything."""
        return False

    @property
    def subject(self) -> tuple[str, bytes]:
        """What is called, without its arguments."""
        return self.method, b""

    def wants_log(self, level: str) -> bool:
        """Whether its client asked for log messages of this level."""
        return self.log_level is not None and LOG_LEVELS.index(level) >= LOG_LEVELS.index(self.log_level)

    def ask(self, child: Child, message: Any) -> None:
        """The server asks this call's client something."""
        self.app.metrics.count("refused_requests")
        child.refuse(message.id, -32601, f"{message.method} can't be asked in this revision")

    def log(self, message: wire.Buffer) -> None:
        """A log message that belongs to this call and is wanted."""
        if self.exchange.live:
            self.exchange.event([wire.notification("notifications/message", message)])

    def release(self) -> None:
        """The call is over for its process."""
        if self.child is not None:
            if self.child.lease is self:
                self.child.lease = None
            self.app.attribution.released(self.child)
            self.app.supply.released(self.child)


class ModernCall(CallerCall):
    """A call of a modern client at a modern server."""

    __slots__ = ()

    def __init__(self, app: App, exchange: Exchange, client_id: bytes, method: str) -> None:
        super().__init__(app, exchange, client_id, method, "modern")

    def answered(self, message: Any) -> None:
        self.release()
        if message.result or self.exchange.streaming:
            super().answered(message)
            return
        self.app.metrics.call(self.era, self.method, "error", self.app.now() - self.exchange.started)
        self.deliver(status_of(message.error), wire.error_pieces(self.client_id, message.error))

    def failed(self, failure: Failure) -> None:
        self.release()
        super().failed(failure)

    def gone(self) -> None:
        self.app.metrics.call(self.era, self.method, "cancelled", self.app.now() - self.exchange.started)
        self._cancel("the client closed the response stream")

    def expired(self) -> None:
        self._cancel("the time for an answer is over")
        self.failed(timed_out(self.app.config.request_seconds))

    def _cancel(self, reason: str) -> None:
        if self.child is not None:
            self.child.cancel(self, reason)
            self.release()


class TranslatedCall(ModernCall):
    """A call of a modern client at a legacy server."""

    __slots__ = ("asks", "capabilities", "outcome", "params", "scheduled")

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
        self.outcome: Any = None

    @property
    def askable(self) -> bool:
        return bool(self.capabilities) and self.method in translate.MAY_ASK

    @property
    def subject(self) -> tuple[str, bytes]:
        return self.method, bytes(self.params.get("name") or self.params.get("uri") or b"")

    def answered(self, message: Any) -> None:
        if message.result:
            message.result = wire.Raw(translate.dress(message.result, self.method, self.app.profile.server))
        elif message.error:
            message.error = wire.Raw(bytes(translate.modern_error(message.error)))
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
        lacks = translate.lacking(message.method, message.params, self.capabilities)
        if message.method == "roots/list" and lacks:
            child.answer(message.id, b'{"roots":[]}')
        elif lacks is not None:
            self.app.metrics.count("refused_requests")
            child.refuse(message.id, -32601, f"the client can't be asked for {message.method}")
            if lacks and self.exchange.live:
                self._cancel("the client lacks a capability that the call needs")
                failure = Failure(
                    MISSING_CAPABILITY,
                    f"the call needs a client that can be asked for {message.method}",
                    {"requiredCapabilities": lacks},
                    status=400,
                )
                self.app.metrics.call(self.era, self.method, "error", self.app.now() - self.exchange.started)
                reply_failure(self.exchange, self.client_id, failure)
        else:
            self.app.kept.asking.add(self.subject)
            self.asks[f"r{message.id}"] = message
            if child.lease is None and self.app.config.isolation == "session":
                child.lease = self
            self.flush_soon()

    def flush_soon(self) -> None:
        """Ask the client for all that the server asks at once."""
        if not self.scheduled:
            self.scheduled = True
            self.app.later(GATHER_SECONDS, self._flush)

    def _flush(self) -> None:
        self.scheduled = False
        if not self.asks or not self.exchange.live:
            return
        state = self.app.suspended.hold(self)
        if state is None:
            self._cancel("too many calls wait for input")
            self.failed(self.app.suspended.full())
            return
        requests = {
            key: {"method": message.method, **({"params": message.params} if message.params else {})}
            for key, message in self.asks.items()
        }
        result = {"resultType": "input_required", "inputRequests": requests, "requestState": state}
        self.app.metrics.call(self.era, self.method, "input_required", self.app.now() - self.exchange.started)
        self.deliver(200, wire.result_pieces(self.client_id, wire.encode(result)))

    def resume(self, exchange: Exchange, client_id: bytes, token: wire.Buffer | None, answers: dict[str, Any]) -> None:
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
            message = self.asks.pop(key, None)
            if message is not None:
                self.child.answer(message.id, result)
        if self.asks:
            self.flush_soon()

    def abandon(self, reason: str) -> None:
        """The client did not come back in time."""
        self._cancel(reason)
        self.asks.clear()
