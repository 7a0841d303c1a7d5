"""The soak tests in short, and tests that they detect what they look for. `make soak` runs them in full."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.soak import isolation, sessions, stages
from tests.soak.callers import Tally
from tests.soak.http_client import Connection, Reply
from tests.soak.legacy_caller import LegacyCaller, LegacyLine
from tests.soak.modern_caller import ModernCaller, ModernLine
from tests.soak.process_counts import Count
from tests.soak.report import Report
from tests.soak.server import built
from tests.soak.stages import STAGES, Stage


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with built() as program:
        yield program


def test_dropped_sessions_leave_nothing() -> None:
    # In a process of its own, which may have to move into another network namespace.
    done = subprocess.run([sys.executable, "-m", "tests.soak", "--short", "sessions"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_callers_with_the_same_id_and_token_get_nothing_of_each_other(server: str) -> None:
    assert isolation.soak(server, isolation.SHORT).broken == []


def test_the_full_soaks_have_the_size_that_is_documented() -> None:
    assert sessions.FULL.callers(STAGES) >= 2_000
    assert sum(each.calls for each in isolation.FULL) >= 1_000_000


@pytest.fixture
def buggy(server: str, tmp_path: Path) -> str:
    """The server with a line on its stderr, and so on the shim's, as asyncio would write it."""
    program = tmp_path / "buggy"
    program.write_text(f'#!/bin/sh\necho "Task exception was never retrieved" >&2\nexec {server} "$@"\n')
    program.chmod(0o755)
    return str(program)


def test_a_bug_that_a_shim_logs_breaks_either_soak(buggy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "GIVE_BACK_SECONDS", 0.0)  # nothing was taken
    nobody = sessions.Size(0, 0, 0, 0, 0, 0, 0)
    broken = [
        sessions.soak(buggy, nobody, [Stage("shared", "legacy")]).broken,
        isolation.soak(buggy, [isolation.Round("legacy", "legacy", "session", 2_000)]).broken,
    ]
    assert broken == [["lines of stderr that tell of a bug"]] * 2


@pytest.mark.parametrize(
    "line",
    [
        "mcpmesh-shim: a bug in acknowledge, please report it: KeyError",
        "Exception in callback UVTransport._call_connection_lost",
        "Traceback (most recent call last):",
        "Future exception was never retrieved",
    ],
)
def test_each_kind_of_bug_report_is_recognized(line: str) -> None:
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


def test_a_callers_own_messages_are_not_counted_as_crossed() -> None:
    tally = Tally()
    legacy_line(tally).check_answer("who", reply("me#7"))
    legacy_line(tally).check_answer("ask", reply("me#7 heard to me#7"))
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
def test_the_answer_of_another_call_is_detected(tool: str, answer: Reply) -> None:
    tally = Tally()
    legacy_line(tally).check_answer(tool, answer)
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
def test_the_notification_of_another_caller_is_detected(message: dict[str, object]) -> None:
    for line in (legacy_line, modern_line):
        tally = Tally()
        line(tally).message_arrived(message)
        assert len(tally.crossed) == 1


def update(uri: str, subscription: int = 1) -> dict[str, object]:
    return note(
        "notifications/resources/updated", uri=uri, _meta={"io.modelcontextprotocol/subscriptionId": subscription}
    )


def test_a_change_of_another_callers_resource_is_detected() -> None:
    tally = Tally()
    session, client = LegacyCaller(0, "me", tally), ModernCaller(0, "me", tally)
    session.subscribed = client.subscribed = True
    for hear in (session.session_message, client.subscription_message):
        hear(update("soak://me"))
    assert (session.updates, client.updates, tally.crossed) == (1, 1, [])
    for hear in (session.session_message, client.subscription_message):
        hear(update("soak://you"))
    client.subscription_message(update("soak://me", subscription=2))
    assert len(tally.crossed) == 3


def test_a_change_that_reaches_a_caller_without_a_subscription_is_detected() -> None:
    tally = Tally()
    LegacyCaller(0, "me", tally).session_message(update("soak://me"))
    assert len(tally.crossed) == 1


@pytest.mark.parametrize(("updates", "each", "wrong"), [(1, True, 1), (3, True, 1), (3, False, 1), (1, False, 0)])
async def test_a_change_that_is_not_notified_exactly_once_is_detected(
    updates: int, each: bool, wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "TOLD_SECONDS", 0.05)
    tally = Tally()
    caller = ModernCaller(0, "me", tally)
    caller.subscribed, caller.touched, caller.updates = True, 2, updates
    await isolation.check_changes([caller], tally, each)
    assert len(tally.wrong) == wrong


async def test_the_server_request_of_another_caller_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LegacyCaller, "_answer", Mock(side_effect=lambda *_: _nothing()))
    tally = Tally()
    question = note("sampling/createMessage", messages=[{"content": {"text": "you#7"}}]) | {"id": 1}
    legacy_line(tally).message_arrived(question)
    assert len(tally.crossed) == 1


async def _nothing() -> None:
    """Leave the server request unanswered."""


def test_a_lost_answer_and_a_broken_bound_are_reported() -> None:
    tally = Tally()
    legacy_line(tally).check_answer("who", Reply(messages=[{"id": 1, "error": {"message": "no"}}]))
    assert len(tally.wrong) == 1
    report = Report()
    report.bound("memory", Count(10, 1060, 1000).grown(Count(10, 1000, 1000)), 5.0, " %")
    report.bound("descriptors", 0, 0)
    assert report.broken == ["memory"]
