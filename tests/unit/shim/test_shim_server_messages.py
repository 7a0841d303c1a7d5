"""Whom a server's question goes to: nobody, as long as it can be anybody else's."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from mcpmesh.shim.calls.multiplexed_call import MultiplexedCall
from mcpmesh.shim.calls.server_request_history import ServerRequestHistory
from mcpmesh.shim.config import Limits
from mcpmesh.shim.errors import Failure
from mcpmesh.shim.server import peer as children
from mcpmesh.shim.server.peer import Peer
from mcpmesh.shim.server_messages import ServerMessages
from mcpmesh.shim.sessions.legacy_call import ServerRequest


class SilentChannel:
    """A server that takes everything and says nothing."""

    exit = None
    waiting_bytes = 0

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def write(self, line: bytes) -> None:
        self.written.append(msgspec.json.decode(line))


class Caller(MultiplexedCall):
    """A call that remembers what its client was asked."""

    def failed(self, failure: Failure) -> None:
        """Told to nobody."""

    def __init__(self, app: Any) -> None:
        super().__init__(app, SimpleNamespace(), b"1", "tools/call", "legacy")  # type: ignore[arg-type]
        self.questions: list[str] = []

    def server_request(self, child: Peer, message: Any) -> None:
        self.questions.append(message.method)


@pytest.fixture
def app() -> Any:
    """What the attribution of server messages needs of a shim."""
    context = SimpleNamespace(
        limits=Limits(),
        metrics=SimpleNamespace(count=lambda _name: None),
        now=time.monotonic,
        config=SimpleNamespace(isolation="session"),
    )
    pool = SimpleNamespace(release=lambda _peer: None)
    return SimpleNamespace(context=context, history=ServerRequestHistory(), pool=pool)


QUESTION = {"jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage"}


def busy(app: Any, *calls: Caller) -> Peer:
    """A server at work on these calls, numbered from 1."""
    child = Peer(SilentChannel(), app.context, 1)  # type: ignore[arg-type]
    child.listener = ServerMessages(app, SimpleNamespace(), SimpleNamespace())
    for call in calls:
        child.send(call, "tools/call", b"")
    return child


def says(child: Peer, message: dict[str, Any]) -> None:
    child._line(msgspec.json.encode(message))


def answers(child: Peer, id: int, **what: Any) -> None:
    says(child, {"jsonrpc": "2.0", "id": id, **what})


RESULT = {"result": {"content": []}}
ERROR = {"error": {"code": 0, "message": "Request cancelled"}}


def test_the_only_caller_is_asked(app):
    only = Caller(app)
    says(busy(app, only), QUESTION)
    assert only.questions == ["sampling/createMessage"]


def test_of_two_nobody_is(app):
    callers = Caller(app), Caller(app)
    child = busy(app, *callers)
    says(child, QUESTION)
    assert child.channel.written[-1]["error"]["code"] == -32601
    assert [call.questions for call in callers] == [[], []]


@pytest.mark.parametrize("answer", [None, ERROR])
def test_one_beside_whom_another_gave_up_is_not(app, answer):
    leaves, stays = Caller(app), Caller(app)
    child = busy(app, leaves, stays)
    child.cancel(leaves, "its client left")
    if answer is not None:
        answers(child, 1, **answer)
    says(child, QUESTION)
    assert stays.questions == []


def test_one_beside_whom_another_gave_up_is_once_that_call_has_its_result(app):
    leaves, stays = Caller(app), Caller(app)
    child = busy(app, leaves, stays)
    child.cancel(leaves, "its client left")
    answers(child, 1, **RESULT)
    says(child, QUESTION)
    assert stays.questions == ["sampling/createMessage"]


def test_one_who_came_after_all_calls_failed_of_a_line_too_long_is_not(app):
    child = busy(app, Caller(app))
    child._oversize(b"x" * 100, b"y" * 100, 10**9)
    comes = Caller(app)
    child.send(comes, "tools/call", b"")
    says(child, QUESTION)
    assert comes.questions == []


def test_calls_that_were_given_up_are_counted_up_to_a_number_and_then_for_good(app, monkeypatch):
    monkeypatch.setattr(children, "MAX_ABANDONED", 2)
    calls = [Caller(app) for _ in range(4)]
    child = busy(app, *calls)
    for call in calls:
        child.cancel(call, "its client left")
    for id in range(1, 5):
        answers(child, id, **RESULT)
    stays = Caller(app)
    child.send(stays, "tools/call", b"")
    says(child, QUESTION)
    assert stays.questions == []


def test_to_a_server_that_does_not_read_the_shim_says_nothing_of_its_own(app):
    child = busy(app, Caller(app))
    written = len(child.channel.written)
    child.channel.waiting_bytes = child.limits.stdin_bytes + 1
    child.refuse(9, -32601, "no")
    child.answer_from_shim(9, b"{}")
    assert len(child.channel.written) == written
    # A client's answer is not taken from it in the first place.
    assert ServerRequest(child, 9).obstacle() is not None


def test_the_only_one_that_may_be_asked_is_though_another_lists_tools(app):
    only, lists = Caller(app), Caller(app)
    lists.method = "tools/list"
    child = busy(app, only, lists)
    child.cancel(lists, "its client left")
    says(child, QUESTION)
    assert only.questions == ["sampling/createMessage"]
