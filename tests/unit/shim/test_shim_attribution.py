"""A held question: whom it goes to when its time is over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from mcpmesh.shim import child as children
from mcpmesh.shim import wire
from mcpmesh.shim.askers import Askers
from mcpmesh.shim.attribution import Attribution
from mcpmesh.shim.calls import CallerCall
from mcpmesh.shim.child import Child
from mcpmesh.shim.config import Limits


class Lines:
    """A server that takes everything and says nothing."""

    exit = None
    waiting_bytes = 0

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def write(self, line: bytes) -> None:
        self.written.append(msgspec.json.decode(line))


class Caller(CallerCall):
    """A call that remembers what its client was asked."""

    def __init__(self, app: Any) -> None:
        super().__init__(app, SimpleNamespace(), b"1", "tools/call", "legacy")  # type: ignore[arg-type]
        self.questions: list[str] = []

    def ask(self, child: Child, message: Any) -> None:
        self.questions.append(message.method)


@pytest.fixture
def app() -> Any:
    """What attribution needs of a shim; what it does later is done when a test calls it."""
    later: list[Any] = []
    return SimpleNamespace(
        later=lambda _seconds, work: later.append(work),
        give_up=lambda: later.pop()(),
        kept=SimpleNamespace(askers=Askers()),
        metrics=SimpleNamespace(count=lambda _name: None),
    )


def held(app: Any) -> tuple[Child, Caller]:
    """A server that asked something while two calls ran, one of which was cancelled; the other call."""
    child = Child(Lines(), Limits(), app.metrics, 1)  # type: ignore[arg-type]
    child.listener = Attribution(app)
    leaves, stays = Caller(app), Caller(app)
    for call in (leaves, stays):
        child.send(call, "tools/call", b"")
    child.listener.asked(child, wire.parse_line(b'{"jsonrpc":"2.0","id":9,"method":"sampling/createMessage"}'))
    child.cancel(leaves, "its client left")
    return child, stays


def test_a_cancelled_call_that_may_still_be_at_work_keeps_a_question_from_the_other(app):
    child, stays = held(app)
    child.listener.released(child)
    app.give_up()
    assert stays.questions == []
    assert child.process.written[-1]["error"]["code"] == -32601


def test_a_cancelled_call_that_ended_meanwhile_does_not(app, monkeypatch):
    child, stays = held(app)
    monkeypatch.setattr(children, "GHOST_SECONDS", -1.0)
    app.give_up()
    assert stays.questions == ["sampling/createMessage"]
    assert "error" not in child.process.written[-1]
