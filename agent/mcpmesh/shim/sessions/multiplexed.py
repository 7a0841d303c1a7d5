"""Legacy sessions over processes that are kept for everybody (isolation shared and request).

The session lives here, not in a server: `initialize`, `ping` and log levels are
answered by the shim, requests are multiplexed. At a legacy server they pass
nearly as they are; at a modern one they get the per-request envelope, and its
`input_required` results become requests to the client, whose answers it gets
with the retry that the protocol provides for.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from mcpmesh.shim.calls.client_call import CANCELLED, RelayCall, put_meta, timed_out
from mcpmesh.shim.calls.input_required import asks
from mcpmesh.shim.calls.multiplexed_call import CallerCall
from mcpmesh.shim.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, NOTHING_STARTED, Failure, lost
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import modern_request, translation
from mcpmesh.shim.protocol.server_info import LATEST_LEGACY, LEGACY
from mcpmesh.shim.server.peer import Child
from mcpmesh.shim.sessions.session import MAX_ASKED, NOT_TOLD, TOO_MANY_ASKED, Session

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

# A modern server may ask anew on each retry; a server that never ends asking is cut off.
MAX_ROUNDS = 32
# What no server sees, since the session is the shim's own.
ANSWERED_HERE = frozenset(("ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"))


class SharedCall(CallerCall):
    """A call of a session's client at a kept process."""

    __slots__ = ("asks", "inner", "inputs", "params", "questions", "rounds", "session", "state")

    def __init__(self, session: SharedSession, exchange: Exchange, message: Any) -> None:
        super().__init__(session.app, exchange, codec.id_json(message.id), message.method, "legacy")
        self.session = session
        self.log_level = session.log_level
        self.params, self.inner = translation.split(message.params)
        self.state: Any = None
        self.asks: set[str] = set()
        self.inputs: dict[str, Any] = {}
        self.questions: list[int] = []
        """The ids under which its client was asked."""
        self.rounds = 0

    @property
    def caller(self) -> object:
        return self.session

    def wants_log(self, level: str) -> bool:
        # A legacy server decides itself as long as no level was set.
        return self.log_level is None or super().wants_log(level)

    def send(self, child: Child) -> None:
        """To the server, in its era; raises Failure when nothing was sent."""
        child.reserve(self)
        put_meta(self, self.inner, self.exchange.head)
        if child.modern:
            params = translation.envelop(self.params, self.inner, self.session.client, self.log_level)
        else:
            whole = {**self.params, "_meta": self.inner} if self.inner else self.params
            params = codec.encode(whole) if whole else b""
        child.process.write(codec.request(self.id, self.method, params))

    def answered(self, message: Any) -> None:
        if self.child is not None and self.child.modern and message.result and self._needs_input(message.result):
            return
        self._over()
        super().answered(message)

    def failed(self, failure: Failure) -> None:
        self._over()
        super().failed(failure)

    def dropped(self) -> None:
        if self in self.session.calls:
            self.count("cancelled")
            self._over()

    def _over(self) -> None:
        self.asks.clear()
        self.release()
        self.session.calls.pop(self, None)
        if not self.questions:
            return
        # Which of a session's calls a legacy server asks for can't be told: the last of them takes its questions along.
        beside = [call for call in self.session.calls if call.child is self.child and call.in_flight]
        if beside and self.child is not None and not self.child.modern:
            beside[-1].questions += self.questions
        else:
            self.session.withdraw(self.questions)

    @property
    def in_flight(self) -> bool:
        return self.child is not None and self.child.calls.get(self.id) is self

    def ask(self, child: Child, message: Any) -> None:
        """A legacy server asks; the client answers under an id of the session's own."""
        lacks = translation.lacking(message.method, message.params, self.session.capabilities)
        if message.method == "roots/list" and lacks:
            child.answer_itself(message.id, translation.NO_ROOTS)
        elif lacks is not None and lacks:
            self.app.metrics.count("refused_requests")
            child.refuse(message.id, METHOD_NOT_FOUND, f"the client can't be asked for {message.method}")
        else:
            self.questions.append(self.session.ask(message.method, message.params, Asked(child, message.id)))

    # A modern server that needs input.

    def _needs_input(self, result: codec.Buffer) -> bool:
        if not asks(result):
            return False
        members = codec.members(result)
        if bytes(members.get("resultType", b"")) != b'"input_required"':
            return False
        self.rounds += 1
        if self.rounds > MAX_ROUNDS:
            self.failed(lost(f"the server asked for input {MAX_ROUNDS} times", "endless-input"))
            return True
        self.state = members.get("requestState")
        requests = codec.members(members["inputRequests"]) if "inputRequests" in members else {}
        self._ask_for(requests)
        return True

    def _ask_for(self, requests: dict[str, Any]) -> None:
        """Put a server's input requests to the client, all of them or, where it can't be asked for one, none."""
        if len(requests) > MAX_ASKED:
            self.failed(lost(f"the server asked for {len(requests)} inputs at once", "too-many-inputs"))
            return
        self.inputs = {}
        asked: dict[str, tuple[str, codec.Buffer]] = {}
        for key, request in requests.items():
            parts = codec.members(request)
            method, params = str(codec.value(parts.get("method", b"null"))), parts.get("params", b"")
            lacks = translation.lacking(method, params, self.session.capabilities)
            if lacks is None:
                asked[key] = method, params
            elif method == "roots/list":
                self.inputs[key] = codec.Raw(translation.NO_ROOTS)
            else:
                # The request is over for the server, so there is nothing to cancel there.
                told = f"the server needs a client that can be asked for {method}"
                self.failed(lost(told, "missing-capability", requiredCapabilities=lacks))
                return
        self.asks = set(asked)
        for key, (method, params) in asked.items():
            self.questions.append(self.session.ask(method, params, Input(self, key)))
        if not asked:
            self._retry()

    def input(self, key: str, message: Any) -> None:
        """The client's answer to one of the server's requests."""
        if key not in self.asks:
            return
        self.asks.discard(key)
        if message.error:
            self.count("error")
            self._over()
            self.deliver(200, codec.error_pieces(self.client_id, message.error))
            return
        self.inputs[key] = message.result
        if not self.asks:
            self._retry()

    def _retry(self) -> None:
        assert self.child is not None
        params = {key: item for key, item in self.params.items() if key not in ("inputResponses", "requestState")}
        if self.inputs:
            params["inputResponses"] = self.inputs
        if self.state is not None:
            params["requestState"] = self.state
        self.params = params
        if self.token is not None:
            self.inner["progressToken"] = self.token
        try:
            self.send(self.child)
        except Failure as failure:
            # The first round was started, whatever hinders this one.
            self.failed(lost(failure.message.removesuffix(NOTHING_STARTED), failure.reason))

    # The client.

    def gone(self) -> None:
        # No cancel; but from now on nobody seems to be there.
        self.session.used = self.app.now()

    def expired(self) -> None:
        if self.child is not None:
            self.child.cancel(self, "the time for an answer is over")
        self.failed(timed_out(self.app.config.request_seconds))


class Asked:
    """A legacy server's request that a client is to answer."""

    def __init__(self, child: Child, id: codec.Id) -> None:
        self.child = child
        self.id = id

    def hindered(self) -> Failure | None:
        """Why the answer can't be passed on now."""
        return self.child.stalled()

    def refused(self, reason: str) -> None:
        self.child.metrics.count("refused_requests")
        self.child.refuse(self.id, INTERNAL_ERROR, reason)

    def replied(self, message: Any) -> None:
        if message.error:
            self.child.answer_error(self.id, message.error)
        else:
            self.child.answer(self.id, message.result)


class Input:
    """One of a modern server's input requests that a client is to answer."""

    def __init__(self, call: SharedCall, key: str) -> None:
        self.call = call
        self.key = key

    def hindered(self) -> Failure | None:
        """The retry that it is sent with tells of its own failure."""
        return None

    def refused(self, reason: str) -> None:
        if self.key in self.call.asks:
            self.call.failed(lost(f"the server's request for input was given up: {reason}", "input-refused"))

    def replied(self, message: Any) -> None:
        self.call.input(self.key, message)


class SharedSession(Session):
    """A session without a process of its own."""

    def __init__(self, app: App, id: str, client: dict[str, Any]) -> None:
        """`client` are the members of its initialize params."""
        super().__init__(app, id)
        self.client = client
        try:
            self.capabilities: dict[str, Any] = dict(codec.value(client.get("capabilities", b"{}")))
            asked = codec.value(client.get("protocolVersion", b'""'))
        except (codec.Malformed, TypeError, ValueError):
            raise Failure(INVALID_PARAMS, "the params of initialize are malformed") from None
        self.version = asked if asked in LEGACY else LATEST_LEGACY
        self.log_level: str | None = None
        self.calls: dict[SharedCall, None] = {}
        """In the order that they came."""
        self._asked: dict[int, Asked | Input] = {}
        self._next = 1

    def initialized(self) -> bytes:
        """The initialize result."""
        profile = self.app.profile
        result: dict[str, Any] = {
            "protocolVersion": self.version,
            "capabilities": profile.capabilities,
            "serverInfo": {"name": self.app.config.name, "version": "", **profile.server},
        }
        if profile.instructions is not None:
            result["instructions"] = profile.instructions
        return codec.encode(result)

    @property
    def busy(self) -> bool:
        return bool(self.streams or self.exchanges())

    def request(self, exchange: Exchange, message: Any) -> None:
        if message.method in ANSWERED_HERE:
            try:
                self._answer_here(exchange, message)
            except (Failure, codec.Malformed):
                self._count(exchange, message, "error")
                raise
            return
        call = SharedCall(self, exchange, message)
        self.calls[call] = None
        try:
            self.app.kept.place(call, call.send)
        except Failure:
            del self.calls[call]
            raise

    def _answer_here(self, exchange: Exchange, message: Any) -> None:
        if message.method in ("resources/subscribe", "resources/unsubscribe"):
            self.app.subscriptions.session_resource(self, exchange, message)
            return
        if message.method == "logging/setLevel":
            self._set_level(message.params)
        self.answer(exchange, message)

    def answer(self, exchange: Exchange, message: Any, error: codec.Buffer = b"") -> None:
        """Answer a request that no server sees, with an empty result where there is no error."""
        self._count(exchange, message, "error" if error else "ok")
        id = codec.id_json(message.id)
        exchange.reply(200, codec.error_pieces(id, error) if error else codec.result_pieces(id, b"{}"))

    def _count(self, exchange: Exchange, message: Any, outcome: str) -> None:
        self.app.metrics.call("legacy", message.method, outcome, self.app.now() - exchange.started)

    def _set_level(self, params: codec.Buffer) -> None:
        whole, _ = translation.split(params)
        level = codec.value(whole.get("level", b"null"))
        if level not in modern_request.LOG_LEVELS:
            raise Failure(INVALID_PARAMS, f"level must be one of {', '.join(modern_request.LOG_LEVELS)}")
        self.log_level = level
        main = self.app.supply.main
        if main is not None and not main.modern and "logging" in self.app.profile.capabilities:
            self.app.spawn(self.app.subscriptions.set_level(main), "set level")

    def notification(self, message: Any) -> None:
        if message.method == "notifications/initialized":
            self.app.subscriptions.session_opened(self)
        elif message.method == "notifications/cancelled":
            with contextlib.suppress(codec.Malformed):
                wanted = codec.id_json(codec.value(codec.members(message.params).get("requestId", b"null")))
                # An id that is used again means the newest call.
                for call in reversed(self.calls):
                    if call.client_id == wanted:
                        if call.child is not None:
                            call.child.cancel(call, "cancelled by the client")
                        call.failed(CANCELLED)
                        return

    def ask(self, method: str, params: codec.Buffer, asked: Asked | Input) -> int:
        """Send the client a request; answers its id."""
        if len(self._asked) >= MAX_ASKED:
            self._asked.pop(next(iter(self._asked))).refused(TOO_MANY_ASKED)
        id = self._next
        self._next += 1
        self._asked[id] = asked
        self.tell(codec.bare_request(b"%d" % id, method, params), id)
        return id

    def unasked(self, id: codec.Id) -> None:
        if isinstance(id, int) and (asked := self._asked.pop(id, None)) is not None:
            asked.refused(NOT_TOLD)

    def withdraw(self, ids: list[int]) -> None:
        """The call that the client was asked these for is over."""
        for id in ids:
            if (asked := self._asked.pop(id, None)) is not None:
                asked.refused("the call that it belongs to is over")

    def response(self, message: Any) -> None:
        asked = self._asked.get(message.id) if isinstance(message.id, int) else None
        if asked is None:
            self.app.metrics.count("stray_messages")
            return
        if (failure := asked.hindered()) is not None:
            raise failure
        del self._asked[message.id]
        asked.replied(message)

    def exchanges(self) -> list[Exchange]:
        return [call.exchange for call in self.calls if call.exchange.live]

    def left_behind(self) -> list[RelayCall]:
        return [call for call in self.calls if not call.exchange.live]

    def close(self) -> None:
        super().close()
        self.app.subscriptions.session_closed(self)
        failure = lost("the session was ended before the server answered", "session-ended")
        for call in list(self.calls):
            if call.child is not None:
                call.child.cancel(call, "the session was ended")
            call.failed(failure)
