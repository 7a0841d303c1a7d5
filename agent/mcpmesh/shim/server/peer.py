"""JSON-RPC with one server process: calls out, answers back, nothing crossed.

Each call gets an id of the shim's own, which is its progress token too, so
callers may use any ids they like, the same ones at the same time included. An
answer to an id that is not in flight (a second answer, one to a cancelled call)
goes nowhere and is counted. When the server ends, every call in flight fails at
once; no call is ever sent to another server.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from mcpmesh.shim.config import Limits
from mcpmesh.shim.errors import INVALID_REQUEST, Failure, lost, unavailable
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.metrics import Metrics
from mcpmesh.shim.server.stdio_process import Exit, Tail, pass_on

# A server that heeds a cancel never answers the call. What it logs is taken for another caller's after this (seconds).
GHOST_SECONDS: Final = 30.0
# Of more cancelled calls than this many nobody keeps count.
MOST_GHOSTS: Final = 10_000

UNREADABLE: Final = lost("the server's answer can't be read", "answer-unreadable")


class Call:
    """A request in flight at a server; subclasses say what becomes of its answer."""

    __slots__ = ("id",)

    def __init__(self) -> None:
        self.id = 0

    @property
    def at_work(self) -> bool:
        """Whether the server works for a client because of it, and may log for its sake."""
        return False

    @property
    def may_ask(self) -> bool:
        """Whether the server may ask that client something for its sake."""
        return False

    def answered(self, message: Any) -> None:
        """The result or the error came."""
        raise NotImplementedError

    def failed(self, failure: Failure) -> None:
        """No answer will come."""
        raise NotImplementedError

    def progressed(self, params: codec.Buffer) -> None:
        """A progress notification for this call came; its token is the shim's."""


class Question(Call):
    """A call of the shim's own, awaited."""

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


class Listener(Protocol):
    """Who hears what a server says on its own account."""

    def asked(self, child: Child, message: Any) -> None:
        """A request of the server's: sampling, elicitation, roots, ping."""

    def notified(self, child: Child, message: Any) -> None:
        """A notification other than the progress of a call in flight."""

    def ended(self, child: Child, exit: Exit) -> None:
        """The server is gone; its calls have failed already."""


class Channel(Protocol):
    """Lines to a server and from it: a process on stdio, or a remote server that is made to look like one."""

    tail: Tail
    pid: int
    exit: Exit | None
    gone: asyncio.Event
    on_line: Callable[[bytes], None]
    on_exit: Callable[[Exit], None]
    on_oversize: Callable[[bytes, bytes, int], None]

    @property
    def waiting_bytes(self) -> int: ...
    async def start(self) -> None: ...
    def write(self, line: bytes) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def kill(self) -> None: ...
    async def stop(self, step_seconds: float) -> None: ...


class Child:
    """A server process and the calls in flight at it."""

    def __init__(self, process: Channel, limits: Limits, metrics: Metrics, number: int) -> None:
        self.process = process
        self.limits = limits
        self.metrics = metrics
        self.number = number
        self.listener: Listener | None = None
        self.calls: dict[int, Call] = {}
        self.last_answer = 0.0
        self.stopping = False
        self.modern = False
        self.version = ""
        self.lease: object | None = None
        """Whose call has the process for itself; no other is sent to it meanwhile."""
        self.ghosts: dict[int, bool] = {}
        """Calls that were given up and not answered with a result: work may go on for them, and it may ask."""
        self._silent: dict[int, float] = {}
        """Those that were not answered at all, and since when."""
        self._next = 1
        self._holders: set[object] = set()
        process.on_line = self._line
        process.on_exit = self._exit

    @property
    def tail(self) -> Tail:
        return self.process.tail

    @property
    def alive(self) -> bool:
        return self.process.exit is None and not self.stopping

    def full(self) -> Failure | None:
        """Why no further call can be sent now."""
        if len(self.calls) >= self.limits.calls_per_child:
            return unavailable(f"cannot take the call: {len(self.calls)} are in flight already", "busy")
        return self.stalled()

    def stalled(self) -> Failure | None:
        """Why nothing at all can be sent now."""
        if self.process.waiting_bytes > self.limits.stdin_bytes:
            return unavailable("cannot take the call: the server does not read its input fast enough", "server-stalled")
        return None

    def send(self, call: Call, method: str, params: codec.Buffer) -> None:
        """Send a request; its answer or its failure is told to `call`. Raises Failure when nothing was sent."""
        self.reserve(call)
        self.process.write(codec.request(call.id, method, params))

    def reserve(self, call: Call) -> int:
        """Give the call its id, which is needed to build its params; raises Failure when the server can't take it."""
        if not self.alive:
            raise unavailable("cannot take the call: the server is stopping", "stopping")
        # What the shim asks itself is little, and two at once where it is not known yet which era the server speaks.
        if (failure := self.stalled() if isinstance(call, Question) else self.full()) is not None:
            raise failure
        call.id = self._next
        self._next += 1
        self.calls[call.id] = call
        return call.id

    def forget(self, call: Call) -> None:
        """Its answer is not wanted any more; a late one goes nowhere."""
        self.calls.pop(call.id, None)

    def cancel(self, call: Call, reason: str) -> None:
        """Tell the server that the answer is not wanted, and forget the call."""
        if self.calls.pop(call.id, None) is not None:
            # The number of no call is never answered.
            self.ghosts[call.id if len(self.ghosts) < MOST_GHOSTS else 0] = call.may_ask or 0 in self.ghosts
            now = time.monotonic()
            while self._silent and now - self._silent[oldest := next(iter(self._silent))] > GHOST_SECONDS:
                del self._silent[oldest]
            self._silent[call.id] = now
            self.notify("notifications/cancelled", codec.encode({"requestId": call.id, "reason": reason}))

    @property
    def haunted(self) -> bool:
        """Whether what the server asks may be for the sake of a call that was given up."""
        return any(self.ghosts.values())

    @property
    def haunted_lately(self) -> bool:
        """Whether a call was given up lately and not answered in any way."""
        # The newest is last.
        return bool(self._silent) and time.monotonic() - next(reversed(self._silent.values())) < GHOST_SECONDS

    def lay(self, id: int) -> None:
        """No work goes on for a call that was given up."""
        self.ghosts.pop(id, None)
        self._silent.pop(id, None)

    def notify(self, method: str, params: codec.Buffer = b"") -> None:
        """Send a notification."""
        self.process.write(codec.notification(method, params) + b"\n")

    def relay(self, message: bytes) -> None:
        """Send a message as it is: an answer to the server's request, a notification of its client."""
        self.process.write(codec.one_line(message) + b"\n")

    def answer(self, id: codec.Id, result: codec.Buffer) -> None:
        """A client's answer to a request of the server's; whether it is read at all is asked before (`stalled`)."""
        self.relay(b"".join(map(bytes, codec.result_pieces(codec.id_json(id), result))))

    def answer_error(self, id: codec.Id, error: codec.Buffer) -> None:
        """The same with an error as it came."""
        self.relay(b"".join(map(bytes, codec.error_pieces(codec.id_json(id), error))))

    def answer_itself(self, id: codec.Id, result: codec.Buffer) -> None:
        """The shim's own answer to a request of the server's."""
        if self._reads():
            self.answer(id, result)

    def refuse(self, id: codec.Id, code: int, message: str) -> None:
        """The shim's own answer with an error."""
        if self._reads():
            self.answer_error(id, codec.error_body(code, message))

    def _reads(self) -> bool:
        """Whether the shim's own answers are taken: what asks and does not read would fill the memory."""
        if self.stalled() is None:
            return True
        self.metrics.count("unread_answers")
        return False

    async def ask(self, method: str, params: Any = None, timeout: float | None = None) -> Any:
        """A request of the shim's own. Raises Failure, or TimeoutError after `timeout` seconds."""
        question = Question()
        self.send(question, method, codec.encode(params) if params is not None else b"")
        try:
            async with asyncio.timeout(timeout):
                return await question.future
        finally:
            self.forget(question)

    async def stop(self) -> None:
        """Stop the process in order."""
        self.stopping = True
        await self.process.stop(self.limits.stop_seconds)

    def hold(self, who: object) -> None:
        """Read nothing more from the server until `who` lets go: its one client does not keep up."""
        if not self._holders:
            self.process.pause()
        self._holders.add(who)

    def let_go(self, who: object) -> None:
        """See hold."""
        if who in self._holders:
            self._holders.discard(who)
            if not self._holders:
                self.process.resume()

    # From the process.

    def _line(self, line: bytes) -> None:
        try:
            message = codec.parse_line(line)
        except codec.Malformed:
            self._rubbish(line)
            self._unreadable(line)
            return
        id = message.id
        if message.method is codec.UNSET:
            call = self.calls.pop(id, None) if type(id) is int else None
            if call is None or not (message.result or message.error):
                if call is not None:
                    self.calls[call.id] = call
                self._stray(line, id, message.result)
                return
            self.last_answer = time.monotonic()
            try:
                call.answered(message)
            except codec.Malformed:
                self._rubbish(line)
                call.failed(UNREADABLE)
            return
        try:
            self._said(message, id, line)
        except codec.Malformed:
            # Spans of a message are looked into late, and may hold what can't be read.
            self._rubbish(line)

    def _said(self, message: Any, id: Any, line: bytes) -> None:
        """A request or a notification of the server's own."""
        if id is codec.UNSET:
            if message.method == "notifications/progress":
                self._progress(message)
            elif self.listener is not None:
                self.listener.notified(self, message)
        elif id is None:
            self._rubbish(line)
        elif self.listener is not None:
            self.listener.asked(self, message)

    def _progress(self, message: Any) -> None:
        with contextlib.suppress(codec.Malformed):
            token = codec.value(codec.members(message.params).get("progressToken", b"null"))
            call = self.calls.get(token) if type(token) is int else None
            if call is not None:
                call.progressed(message.params)
                return
        self.metrics.count("stray_messages")

    def _stray(self, line: bytes, id: object, result: codec.Buffer) -> None:
        """An answer that nobody waits for: a second one, a late one, or an error without an id."""
        if type(id) is int and id in self.ghosts:
            # An error may be all that there is to a cancel, with the work going on behind it.
            if result:
                self.lay(id)
            self._silent.pop(id, None)
            return
        self.metrics.count("stray_messages")
        if id is None:
            self._show(line)

    def _rubbish(self, line: bytes) -> None:
        if line.strip():
            self.metrics.count("rubbish_lines")
            self._show(line)

    def _unreadable(self, line: bytes) -> None:
        """Rubbish that begins or ends as the answer to a call: no other answer will come."""
        if b'"result"' in line[:256] or b'"error"' in line[:256]:
            found = codec.find_id(line[:256], line[-256:])
            if isinstance(found, int) and (call := self.calls.pop(found, None)) is not None:
                call.failed(UNREADABLE)

    def _show(self, line: bytes) -> None:
        self.tail.add(line)
        pass_on(b"mcpmesh-shim: rubbish on stdout: " + line[:500])

    def oversize(self, head: bytes, tail: bytes, size: int) -> None:
        """A line over the limit: the call that it answers fails; where that can't be told, all of them do."""
        self.metrics.count("oversize_lines")
        if b'"method"' in head[:256] and b'"result"' not in head[:256]:
            if (asked := codec.find_id(head, tail)) is not None:
                self.refuse(asked, INVALID_REQUEST, f"the request is {size} bytes long, over {self.limits.line_bytes}")
            return
        failure = lost(
            f"the server's answer is {size} bytes long, over the limit of {self.limits.line_bytes}; "
            "ask for less or raise limits.line_bytes",
            "answer-too-long",
        )
        if isinstance(found := codec.find_id(head, tail), int):
            self.lay(found)
            if (call := self.calls.pop(found, None)) is not None:
                call.failed(failure)
            return
        for call in list(self.calls.values()):
            if call.at_work:
                self.cancel(call, "its answer may have been too long")
            else:
                self.forget(call)
            call.failed(failure)

    def fail_calls(self, failure: Failure) -> None:
        """Fail everything in flight."""
        calls, self.calls = self.calls, {}
        for call in calls.values():
            call.failed(failure)

    def _exit(self, exit: Exit) -> None:
        self.fail_calls(self.loss(exit))
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.ended(self, exit)

    def loss(self, exit: Exit) -> Failure:
        """What the callers of a dead server are told."""
        if not exit.ran:
            return unavailable(f"the server {exit}", "failed")
        return lost(
            f"the server {exit} before it answered; the call may have taken effect and was not sent again",
            "server-exited",
            exitCode=exit.code,
            signal=exit.signal,
        )
