"""JSON-RPC with one server: requests out, answers matched to them, server requests and notifications handed on.

Each request gets an id of the shim's own, which is its progress token too, so
callers may use any ids, even the same one at the same time. An answer to an id
that is not in flight (a second answer, the answer to a cancelled call) is
dropped and counted. When the server exits, every call in flight fails at once;
no call is ever sent to another server.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final, Protocol

from mcpmesh.shim.context import Context
from mcpmesh.shim.errors import INVALID_REQUEST, Failure, answer_lost, unavailable
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.server.channel import Channel, OutputTail, ServerExit, forward_stderr

# A server that obeys a cancel never answers the call. After this time (seconds) its log messages are attributed to
# another caller again.
ABANDONED_SECONDS: Final = 30.0
# More abandoned calls are not told apart.
MAX_ABANDONED: Final = 10_000

UNREADABLE: Final = answer_lost("the server's answer can't be read", "answer-unreadable")


class PendingRequest:
    """A request in flight at a server; subclasses define what happens with its answer."""

    __slots__ = ("id",)

    def __init__(self) -> None:
        self.id = 0

    @property
    def works_for_client(self) -> bool:
        """Whether the server works for a client because of it, and may send log messages about it."""
        return False

    @property
    def may_ask_client(self) -> bool:
        """Whether the server may send its client a request because of it."""
        return False

    def answered(self, message: Any) -> None:
        """The result or the error arrived."""
        raise NotImplementedError

    def failed(self, failure: Failure) -> None:
        """No answer will come."""
        raise NotImplementedError

    def progressed(self, params: codec.Buffer) -> None:
        """A progress notification for this call arrived; its token is the shim's."""


class AwaitedRequest(PendingRequest):
    """A request of the shim itself, which a coroutine awaits."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        super().__init__()
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answered(self, message: Any) -> None:
        if not self.future.done():
            self.future.set_result(message)

    def failed(self, failure: Failure) -> None:
        if not self.future.done():
            self.future.set_exception(failure)


class PeerListener(Protocol):
    """Receives the messages that a server sends on its own account."""

    def server_request(self, peer: Peer, message: Any) -> None:
        """A request of the server: sampling, elicitation, roots, ping."""

    def server_notification(self, peer: Peer, message: Any) -> None:
        """A notification, except progress of a call in flight."""

    def server_exited(self, peer: Peer, exit: ServerExit) -> None:
        """The server exited; its calls have failed already."""


class Peer:
    """One server and the calls in flight at it."""

    def __init__(self, channel: Channel, context: Context, number: int) -> None:
        self.channel = channel
        self.limits = context.limits
        self.metrics = context.metrics
        self.number = number
        self.listener: PeerListener | None = None
        self.calls: dict[int, PendingRequest] = {}
        self.last_answer = 0.0
        self.stopping = False
        self.modern = False
        self.version = ""
        self.lease: object | None = None
        """The call that has the server for itself; meanwhile no other that could be asked is sent to it."""
        self.abandoned: dict[int, bool] = {}
        """Calls that were given up and not answered with a result: the server may still work for them. The value says
        whether it may ask their clients something."""
        self._unanswered: dict[int, float] = {}
        """The abandoned calls that were not answered in any way, and when each was given up."""
        self._now = context.now
        self._next_id = 1
        self._slow_readers: set[object] = set()
        channel.on_line = self._line
        channel.on_exit = self._exited
        channel.on_oversize = self._oversize

    @property
    def tail(self) -> OutputTail:
        return self.channel.tail

    @property
    def alive(self) -> bool:
        return self.channel.exit is None and not self.stopping

    @property
    def works_for_clients(self) -> bool:
        """Whether a client's call runs here."""
        return any(call.works_for_client for call in self.calls.values())

    # To the server.

    def overload(self) -> Failure | None:
        """Why no further call can be sent now; None if one can."""
        if len(self.calls) >= self.limits.calls_per_child:
            return unavailable(f"cannot take the call: {len(self.calls)} are in flight already", "busy")
        return self.stall()

    def stall(self) -> Failure | None:
        """Why nothing at all can be sent now; None if it can."""
        if self.channel.waiting_bytes > self.limits.stdin_bytes:
            return unavailable("cannot take the call: the server does not read its input fast enough", "server-stalled")
        return None

    def send(self, call: PendingRequest, method: str, params: codec.Buffer) -> None:
        """Send a request; `call` gets its answer or its failure. Raises Failure when nothing was sent."""
        self.register(call)
        self.channel.write(codec.request(call.id, method, params))

    def register(self, call: PendingRequest) -> int:
        """Give the call its id, which its params may need; raises Failure when the server can't take the call."""
        if self.channel.exit is not None or self.stopping:
            raise unavailable("cannot take the call: the server is stopping", "stopping")
        # The shim's own requests are few; two of them run at once while the server's era is unknown.
        if (failure := self.stall() if isinstance(call, AwaitedRequest) else self.overload()) is not None:
            raise failure
        call.id = self._next_id
        self._next_id += 1
        self.calls[call.id] = call
        return call.id

    def forget(self, call: PendingRequest) -> None:
        """Drop a call whose answer is not wanted any more; a late answer is ignored."""
        self.calls.pop(call.id, None)

    def cancel(self, call: PendingRequest, reason: str) -> None:
        """Tell the server that the answer is not wanted, and forget the call."""
        if self.calls.pop(call.id, None) is None:
            return
        # Beyond the bound all share the id 0, which no call has, so no answer ever settles it.
        shared = 0 in self.abandoned
        self.abandoned[call.id if len(self.abandoned) < MAX_ABANDONED else 0] = call.may_ask_client or shared
        now = self._now()
        while self._unanswered and now - self._unanswered[oldest := next(iter(self._unanswered))] > ABANDONED_SECONDS:
            del self._unanswered[oldest]
        self._unanswered[call.id] = now
        self.notify("notifications/cancelled", codec.encode({"requestId": call.id, "reason": reason}))

    @property
    def has_abandoned_calls(self) -> bool:
        """Whether a server request may belong to a call that was given up."""
        return any(self.abandoned.values())

    @property
    def has_recently_abandoned_calls(self) -> bool:
        """Whether a call was given up in the last ABANDONED_SECONDS and not answered in any way."""
        # The newest is last.
        return bool(self._unanswered) and self._now() - next(reversed(self._unanswered.values())) < ABANDONED_SECONDS

    def settle(self, id: int) -> None:
        """The server does not work for this abandoned call any more."""
        self.abandoned.pop(id, None)
        self._unanswered.pop(id, None)

    def notify(self, method: str, params: codec.Buffer = b"") -> None:
        """Send a notification."""
        self.channel.write(codec.notification(method, params) + b"\n")

    def answer(self, id: codec.Id, result: codec.Buffer) -> None:
        """Send a client's answer to a server request; the caller has checked `stall`."""
        self._write(codec.result_pieces(codec.id_json(id), result))

    def answer_error(self, id: codec.Id, error: codec.Buffer) -> None:
        """As answer, with an error."""
        self._write(codec.error_pieces(codec.id_json(id), error))

    def answer_from_shim(self, id: codec.Id, result: codec.Buffer) -> None:
        """Answer a server request with a result of the shim's own."""
        if self._reads_answers():
            self.answer(id, result)

    def refuse(self, id: codec.Id, code: int, message: str) -> None:
        """Answer a server request with an error of the shim's own."""
        if self._reads_answers():
            self.answer_error(id, codec.error_body(code, message))

    def _write(self, pieces: list[codec.Buffer]) -> None:
        self.channel.write(codec.one_line(b"".join(map(bytes, pieces))) + b"\n")

    def _reads_answers(self) -> bool:
        """Whether to send an answer of the shim's own: a server that asks and does not read would fill the memory."""
        if self.stall() is None:
            return True
        self.metrics.count("unread_answers")
        return False

    async def ask(self, method: str, params: Any = None, timeout: float | None = None) -> Any:
        """Send a request of the shim's own. Raises Failure, or TimeoutError after `timeout` seconds."""
        request = AwaitedRequest()
        self.send(request, method, codec.encode(params) if params is not None else b"")
        try:
            async with asyncio.timeout(timeout):
                return await request.future
        finally:
            self.forget(request)

    async def stop(self) -> None:
        """Stop the server in order; returns after its exit."""
        self.stopping = True
        await self.channel.stop(self.limits.stop_seconds)

    def pause_for(self, reader: object) -> None:
        """Stop reading from the server until `reader`, the only receiver of its output, catches up."""
        if not self._slow_readers:
            self.channel.pause()
        self._slow_readers.add(reader)

    def resume_for(self, reader: object) -> None:
        """See pause_for."""
        if reader in self._slow_readers:
            self._slow_readers.discard(reader)
            if not self._slow_readers:
                self.channel.resume()

    # From the server.

    def _line(self, line: bytes) -> None:
        try:
            message = codec.parse_line(line)
        except codec.Malformed:
            self._invalid_line(line)
            self._fail_unreadable_answer(line)
            return
        id = message.id
        if message.method is codec.UNSET:
            call = self.calls.pop(id, None) if type(id) is int else None
            if call is None or not (message.result or message.error):
                if call is not None:
                    self.calls[call.id] = call
                self._unmatched_answer(line, id, message.result)
                return
            self.last_answer = self._now()
            try:
                call.answered(message)
            except codec.Malformed:
                self._invalid_line(line)
                call.failed(UNREADABLE)
            return
        try:
            self._server_message(message, id, line)
        except codec.Malformed:
            # Spans of a message are decoded late and may turn out to be unreadable.
            self._invalid_line(line)

    def _server_message(self, message: Any, id: Any, line: bytes) -> None:
        if id is codec.UNSET:
            if message.method == "notifications/progress":
                self._progress(message)
            elif self.listener is not None:
                self.listener.server_notification(self, message)
        elif id is None:
            self._invalid_line(line)
        elif self.listener is not None:
            self.listener.server_request(self, message)

    def _progress(self, message: Any) -> None:
        with contextlib.suppress(codec.Malformed):
            token = codec.decode(codec.members(message.params).get("progressToken", b"null"))
            call = self.calls.get(token) if type(token) is int else None
            if call is not None:
                call.progressed(message.params)
                return
        self.metrics.count("stray_messages")

    def _unmatched_answer(self, line: bytes, id: object, result: codec.Buffer) -> None:
        """An answer that no call waits for: a second one, a late one, or an error without an id."""
        if type(id) is int and id in self.abandoned:
            # An error may only acknowledge the cancel, while the work goes on.
            if result:
                self.settle(id)
            self._unanswered.pop(id, None)
            return
        self.metrics.count("stray_messages")
        if id is None:
            self._show(line)

    def _invalid_line(self, line: bytes) -> None:
        if line.strip():
            self.metrics.count("rubbish_lines")
            self._show(line)

    def _fail_unreadable_answer(self, line: bytes) -> None:
        """Fail the call whose answer an invalid line seems to be: no other answer will come."""
        if b'"result"' in line[:256] or b'"error"' in line[:256]:
            found = codec.find_id(line[:256], line[-256:])
            if isinstance(found, int) and (call := self.calls.pop(found, None)) is not None:
                call.failed(UNREADABLE)

    def _show(self, line: bytes) -> None:
        self.tail.add(line)
        forward_stderr(b"mcpmesh-shim: rubbish on stdout: " + line[:500])

    def _oversize(self, head: bytes, tail: bytes, size: int) -> None:
        """A line over the limit: fail the call that it answers; if that is unknown, fail all calls."""
        self.metrics.count("oversize_lines")
        if b'"method"' in head[:256] and b'"result"' not in head[:256]:
            if (request_id := codec.find_id(head, tail)) is not None:
                sentence = f"the request is {size} bytes long, over {self.limits.line_bytes}"
                self.refuse(request_id, INVALID_REQUEST, sentence)
            return
        failure = answer_lost(
            f"the server's answer is {size} bytes long, over the limit of {self.limits.line_bytes}; "
            "ask for less or raise limits.line_bytes",
            "answer-too-long",
        )
        if isinstance(found := codec.find_id(head, tail), int):
            self.settle(found)
            if (call := self.calls.pop(found, None)) is not None:
                call.failed(failure)
            return
        for call in list(self.calls.values()):
            if call.works_for_client:
                self.cancel(call, "its answer may have been too long")
            else:
                self.forget(call)
            call.failed(failure)

    def fail_calls(self, failure: Failure) -> None:
        """Fail every call in flight."""
        calls, self.calls = self.calls, {}
        for call in calls.values():
            call.failed(failure)

    def _exited(self, exit: ServerExit) -> None:
        self.fail_calls(exit_failure(exit))
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.server_exited(self, exit)


def exit_failure(exit: ServerExit) -> Failure:
    """The failure of the calls that were in flight when the server exited."""
    if not exit.ran:
        return unavailable(f"the server {exit}", "failed")
    return answer_lost(
        f"the server {exit} before it answered; the call may have taken effect and was not sent again",
        "server-exited",
        exitCode=exit.code,
        signal=exit.signal,
    )
