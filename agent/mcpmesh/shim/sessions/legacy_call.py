"""A legacy client's call at a shared server process of either era.

At a legacy server the call passes nearly unchanged. At a modern one it gets the
per-request envelope, and a result `input_required` becomes requests to the
client, whose answers the server gets with the retry that the protocol defines.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from mcpmesh.shim.calls.call_context import CallContext
from mcpmesh.shim.calls.client_call import fill_meta, timeout_failure
from mcpmesh.shim.calls.input_required import INPUT_REQUIRED, may_require_input
from mcpmesh.shim.calls.multiplexed_call import MultiplexedCall
from mcpmesh.shim.errors import INTERNAL_ERROR, METHOD_NOT_FOUND, NOTHING_STARTED, Failure, answer_lost
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.protocol.meta_keys import PROGRESS_TOKEN
from mcpmesh.shim.server.peer import Peer
from mcpmesh.shim.sessions.session import MAX_SERVER_REQUESTS

# A modern server may ask again at each retry; one that never stops asking is cut off.
MAX_ROUNDS: Final = 32


class CallingSession(Protocol):
    """The session of a LegacyCall, as the call sees it."""

    client: dict[str, Any]
    capabilities: dict[str, Any]
    log_level: str | None
    last_used: float
    calls: dict[LegacyCall, None]

    def ask(self, method: str, params: codec.Buffer, question: Question) -> int:
        """Send the client a request; returns the id that it has there."""

    def withdraw(self, ids: list[int]) -> None:
        """Refuse these requests if the client has not answered them: their call has ended."""


class Question(Protocol):
    """A request that a client is to answer."""

    def obstacle(self) -> Failure | None:
        """Why the answer can't be taken now; None if it can."""

    def answered(self, message: Any) -> None:
        """The client answered, with a result or an error."""

    def refused(self, reason: str) -> None:
        """The client will not answer."""


class ServerRequest:
    """A legacy server's request that a client is to answer (a Question)."""

    def __init__(self, peer: Peer, id: codec.Id) -> None:
        self.peer = peer
        self.id = id

    def obstacle(self) -> Failure | None:
        return self.peer.stall()

    def answered(self, message: Any) -> None:
        if message.error:
            self.peer.answer_error(self.id, message.error)
        else:
            self.peer.answer(self.id, message.result)

    def refused(self, reason: str) -> None:
        self.peer.metrics.count("refused_requests")
        self.peer.refuse(self.id, INTERNAL_ERROR, reason)


class InputRequest:
    """One of a modern server's input requests that a client is to answer (a Question)."""

    def __init__(self, call: LegacyCall, key: str) -> None:
        self.call = call
        self.key = key

    def obstacle(self) -> Failure | None:
        # The answer goes with a retry, which reports its own failure.
        return None

    def answered(self, message: Any) -> None:
        self.call.input_arrived(self.key, message)

    def refused(self, reason: str) -> None:
        if self.key in self.call.missing_inputs:
            self.call.failed(answer_lost(f"the server's request for input was given up: {reason}", "input-refused"))


class LegacyCall(MultiplexedCall):
    """A call of a session's client at a shared process."""

    __slots__ = ("inputs", "meta", "missing_inputs", "params", "question_ids", "rounds", "session", "state")

    def __init__(self, call_context: CallContext, session: CallingSession, exchange: Exchange, message: Any) -> None:
        super().__init__(call_context, exchange, codec.id_json(message.id), message.method, "legacy")
        self.session = session
        self.log_level = session.log_level
        self.params, self.meta = translation.split_meta(message.params)
        self.state: Any = None
        """The `requestState` of a modern server that needs input."""
        self.missing_inputs: set[str] = set()
        """Keys of the input requests that the client has not answered."""
        self.inputs: dict[str, Any] = {}
        self.question_ids: list[int] = []
        """The ids of the requests that were sent to the client because of this call."""
        self.rounds = 0

    @property
    def caller(self) -> object:
        return self.session

    @property
    def in_flight(self) -> bool:
        return self.peer is not None and self.peer.calls.get(self.id) is self

    def wants_log(self, level: str) -> bool:
        # As long as the client set no level, a legacy server decides.
        return self.log_level is None or super().wants_log(level)

    def send(self, peer: Peer) -> None:
        """Send the call to the server, in the server's era; raises Failure when nothing was sent."""
        peer.register(self)
        fill_meta(self, self.meta, self.exchange.head)
        if peer.modern:
            params = translation.to_modern_params(self.params, self.meta, self.session.client, self.log_level)
        else:
            whole = {**self.params, "_meta": self.meta} if self.meta else self.params
            params = codec.encode(whole) if whole else b""
        peer.channel.write(codec.request(self.id, self.method, params))

    def answered(self, message: Any) -> None:
        if self.peer is not None and self.peer.modern and message.result and self._requires_input(message.result):
            return
        self._end()
        super().answered(message)

    def failed(self, failure: Failure) -> None:
        self._end()
        super().failed(failure)

    def dropped(self) -> None:
        if self in self.session.calls:
            self.count("cancelled")
            self._end()

    def _end(self) -> None:
        self.missing_inputs.clear()
        self.release()
        self.session.calls.pop(self, None)
        if not self.question_ids:
            return
        # Which of a session's calls a legacy server's request belongs to is unknown: the newest inherits the requests.
        others = [call for call in self.session.calls if call.peer is self.peer and call.in_flight]
        if others and self.peer is not None and not self.peer.modern:
            others[-1].question_ids += self.question_ids
        else:
            self.session.withdraw(self.question_ids)

    def server_request(self, peer: Peer, message: Any) -> None:
        """A legacy server's request; the client gets it with an id of the session's own."""
        missing = translation.missing_capability(message.method, message.params, self.session.capabilities)
        if message.method == "roots/list" and missing:
            peer.answer_from_shim(message.id, translation.NO_ROOTS)
        elif missing is not None and missing:
            self.context.metrics.count("refused_requests")
            peer.refuse(message.id, METHOD_NOT_FOUND, f"the client can't be asked for {message.method}")
        else:
            question = ServerRequest(peer, message.id)
            self.question_ids.append(self.session.ask(message.method, message.params, question))

    # A modern server that needs input.

    def _requires_input(self, result: codec.Buffer) -> bool:
        if not may_require_input(result):
            return False
        members = codec.members(result)
        if bytes(members.get("resultType", b"")) != INPUT_REQUIRED:
            return False
        self.rounds += 1
        if self.rounds > MAX_ROUNDS:
            self.failed(answer_lost(f"the server asked for input {MAX_ROUNDS} times", "endless-input"))
            return True
        self.state = members.get("requestState")
        self._ask_for(codec.members(members["inputRequests"]) if "inputRequests" in members else {})
        return True

    def _ask_for(self, requests: dict[str, Any]) -> None:
        """Send a server's input requests to the client: all, or none if the client lacks a capability for one."""
        if len(requests) > MAX_SERVER_REQUESTS:
            self.failed(answer_lost(f"the server asked for {len(requests)} inputs at once", "too-many-inputs"))
            return
        self.inputs = {}
        questions: dict[str, tuple[str, codec.Buffer]] = {}
        for key, request in requests.items():
            members = codec.members(request)
            method, params = str(codec.decode(members.get("method", b"null"))), members.get("params", b"")
            missing = translation.missing_capability(method, params, self.session.capabilities)
            if missing is None:
                questions[key] = method, params
            elif method == "roots/list":
                self.inputs[key] = codec.Raw(translation.NO_ROOTS)
            else:
                # For the server the request is complete, so there is nothing to cancel.
                sentence = f"the server needs a client that can be asked for {method}"
                self.failed(answer_lost(sentence, "missing-capability", requiredCapabilities=missing))
                return
        self.missing_inputs = set(questions)
        for key, (method, params) in questions.items():
            self.question_ids.append(self.session.ask(method, params, InputRequest(self, key)))
        if not questions:
            self._retry()

    def input_arrived(self, key: str, message: Any) -> None:
        """The client answered one of the input requests."""
        if key not in self.missing_inputs:
            return
        self.missing_inputs.discard(key)
        if message.error:
            self.count("error")
            self._end()
            self.deliver(200, codec.error_pieces(self.client_id, message.error))
            return
        self.inputs[key] = message.result
        if not self.missing_inputs:
            self._retry()

    def _retry(self) -> None:
        assert self.peer is not None
        params = {key: item for key, item in self.params.items() if key not in ("inputResponses", "requestState")}
        if self.inputs:
            params["inputResponses"] = self.inputs
        if self.state is not None:
            params["requestState"] = self.state
        self.params = params
        if self.progress_token is not None:
            self.meta[PROGRESS_TOKEN] = self.progress_token
        try:
            self.send(self.peer)
        except Failure as failure:
            # The first round was started, whatever prevents this one.
            self.failed(answer_lost(failure.message.removesuffix(NOTHING_STARTED), failure.reason))

    # The client.

    def client_gone(self) -> None:
        # This cancels nothing, but the session's idle time starts now.
        self.session.last_used = self.context.now()

    def expired(self) -> None:
        if self.peer is not None:
            self.peer.cancel(self, "the time for an answer is over")
        self.failed(timeout_failure(self.context.config.request_seconds))
