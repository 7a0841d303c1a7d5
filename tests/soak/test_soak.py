"""The soaks in short, and that they would see what they look for. `make soak` runs them in full."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.soak import isolation, sessions, stages
from tests.soak.callers import Tally
from tests.soak.counting import Count
from tests.soak.legacy_caller import LegacyCaller, LegacyLine
from tests.soak.modern_caller import ModernCaller, ModernLine
from tests.soak.report import Report
from tests.soak.server import built
from tests.soak.stages import STAGES, Stage
from tests.soak.wire import Connection, Reply


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with built() as program:
        yield program


def test_sessions_dropped_in_every_impolite_way_leave_nothing() -> None:
    # A process of its own, since it may have to move into another network namespace.
    done = subprocess.run([sys.executable, "-m", "tests.soak", "--short", "sessions"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_callers_of_one_id_and_one_token_get_nothing_of_each_other(server: str) -> None:
    assert isolation.soak(server, isolation.SHORT).broken == []


def test_the_full_soaks_are_as_large_as_they_say() -> None:
    assert sessions.FULL.callers(STAGES) >= 2_000
    assert sum(each.calls for each in isolation.FULL) >= 1_000_000


@pytest.fixture
def buggy(server: str, tmp_path: Path) -> str:
    """The server with a line on its stderr, and so on the shim's, that asyncio would write."""
    program = tmp_path / "buggy"
    program.write_text(f'#!/bin/sh\necho "Task exception was never retrieved" >&2\nexec {server} "$@"\n')
    program.chmod(0o755)
    return str(program)


def test_a_bug_that_a_shim_tells_of_breaks_either_soak(buggy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "GIVE_BACK_SECONDS", 0.0)  # nothing was taken
    nobody = sessions.Size(0, 0, 0, 0, 0, 0, 0)
    told = [
        sessions.soak(buggy, nobody, [Stage("shared", "legacy")]).broken,
        isolation.soak(buggy, [isolation.Round("legacy", "legacy", "session", 2_000)]).broken,
    ]
    assert told == [["lines of stderr that tell of a bug"]] * 2


@pytest.mark.parametrize(
    "line",
    [
        "mcpmesh-shim: a bug in acknowledge, please report it: KeyError",
        "Exception in callback UVTransport._call_connection_lost",
        "Traceback (most recent call last):",
        "Future exception was never retrieved",
    ],
)
def test_each_word_for_a_bug_is_known(line: str) -> None:
    report = Report()
    report.bugs(["mcpmesh-shim: test listens on 127.0.0.1:1", line])
    assert len(report.broken) == 1


def legacy_line(tally: Tally) -> LegacyLine:
    line = LegacyLine(LegacyCaller(0, "me", tally), Connection())
    line.number = 7
    return line


def modern_line(tally: Tally) -> ModernLine:
    line = ModernLine(ModernCaller(0, "me", tally), Connection())
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


def update(uri: str, subscription: int = 1) -> dict[str, object]:
    return note(
        "notifications/resources/updated", uri=uri, _meta={"io.modelcontextprotocol/subscriptionId": subscription}
    )


def test_a_change_of_ones_own_is_ones_own_and_anothers_is_seen() -> None:
    tally = Tally()
    session, client = LegacyCaller(0, "me", tally), ModernCaller(0, "me", tally)
    session.subscribed = client.subscribed = True
    for hear in (session.heard, client.listened):
        hear(update("soak://me"))
    assert (session.updates, client.updates, tally.crossed) == (1, 1, [])
    for hear in (session.heard, client.listened):
        hear(update("soak://you"))
    client.listened(update("soak://me", subscription=2))
    assert len(tally.crossed) == 3


def test_a_change_that_reaches_who_did_not_subscribe_is_seen() -> None:
    tally = Tally()
    LegacyCaller(0, "me", tally).heard(update("soak://me"))
    assert len(tally.crossed) == 1


@pytest.mark.parametrize(("updates", "each", "wrong"), [(1, True, 1), (3, True, 1), (3, False, 1), (1, False, 0)])
async def test_a_change_that_is_not_told_once_is_seen(
    updates: int, each: bool, wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "TOLD_SECONDS", 0.05)
    tally = Tally()
    caller = ModernCaller(0, "me", tally)
    caller.subscribed, caller.touched, caller.updates = True, 2, updates
    await isolation.told([caller], tally, each)
    assert len(tally.wrong) == wrong


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
