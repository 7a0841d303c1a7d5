"""The soaks in short, and that they would see what they look for. `make soak` runs them in full."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from tests.soak import isolation, sessions
from tests.soak.callers import LegacyCaller, LegacyLine, ModernCaller, ModernLine, Tally
from tests.soak.counting import Count
from tests.soak.report import Report
from tests.soak.server import built
from tests.soak.wire import Connection, Reply


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with built() as program:
        yield program


def test_sessions_dropped_in_every_impolite_way_leave_nothing(server: str) -> None:
    assert sessions.soak(server, sessions.SHORT).broken == []


def test_callers_of_one_id_and_one_token_get_nothing_of_each_other(server: str) -> None:
    assert isolation.soak(server, isolation.SHORT).broken == []


def test_the_full_soaks_are_as_large_as_they_say() -> None:
    assert sessions.FULL.sessions >= 2_000
    assert sum(each.calls for each in isolation.FULL) >= 1_000_000


def legacy_line(tally: Tally) -> LegacyLine:
    line = LegacyLine(LegacyCaller(0, "me", "session", tally), Connection())
    line.number = 7
    return line


def modern_line(tally: Tally) -> ModernLine:
    line = ModernLine(ModernCaller(0, "me", "session", tally), Connection())
    line.number = 7
    return line


def reply(words: str, id: object = 1) -> Reply:
    return Reply(status=200, messages=[{"id": id, "result": {"content": [{"type": "text", "text": words}]}}])


def test_what_is_ones_own_is_not_taken_for_crossed() -> None:
    tally = Tally()
    legacy_line(tally).judge("who", reply("me#7"))
    legacy_line(tally).judge("ask", reply("me#7 heard to me#7"))
    assert (tally.counts["calls"], tally.crossed) == (2, [])


@pytest.mark.parametrize(
    ("tool", "answer"),
    [
        ("who", reply("you#7")),
        ("who", reply("me#8")),
        ("who", reply("me#7", id=2)),
        ("ask", reply("me#7 heard to you#7")),
        ("fail", Reply(messages=[{"id": 1, "error": {"message": "you#7"}}])),
    ],
)
def test_anothers_answer_is_seen(tool: str, answer: Reply) -> None:
    tally = Tally()
    legacy_line(tally).judge(tool, answer)
    assert len(tally.crossed) == 1


def note(method: str, **params: object) -> dict[str, object]:
    return {"method": method, "params": params}


@pytest.mark.parametrize(
    "message",
    [
        note("notifications/progress", message="you#7", progressToken=1),
        note("notifications/progress", message="me#8", progressToken=1),
        note("notifications/progress", message="me#7", progressToken=2),
        note("notifications/message", data="you#7"),
    ],
)
def test_anothers_notification_is_seen(message: dict[str, object]) -> None:
    for line in (legacy_line, modern_line):
        tally = Tally()
        line(tally).came(message)
        assert len(tally.crossed) == 1


async def test_anothers_question_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LegacyCaller, "_answer", Mock(side_effect=lambda *_: _nothing()))
    tally = Tally()
    question = note("sampling/createMessage", messages=[{"content": {"text": "you#7"}}]) | {"id": 1}
    legacy_line(tally).came(question)
    assert len(tally.crossed) == 1


async def _nothing() -> None:
    """The question is not answered."""


def test_a_lost_answer_and_a_bound_that_is_passed_are_told() -> None:
    tally = Tally()
    legacy_line(tally).judge("who", Reply(messages=[{"id": 1, "error": {"message": "no"}}]))
    assert len(tally.wrong) == 1
    report = Report()
    report.bound("memory", Count(10, 1060, 1000).grown(Count(10, 1000, 1000)), 5.0, " %")
    report.bound("descriptors", 0, 0)
    assert report.broken == ["memory"]
