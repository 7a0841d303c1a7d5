"""The journal: numbers, levels, and clients that follow it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mcpmesh.model.agent_reports import Event, Level
from mcpmesh.reconcile.event_journal import KEPT_EVENTS, Journal


async def sentences(journal: Journal, since: int = 0) -> list[str]:
    return [event.sentence async for event in journal.follow(since, forever=False)]


async def test_events_are_numbered_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1234.5)
    journal = Journal()
    assert journal.last == 0
    journal.record(Level.CHANGE, "ready", "files")
    journal.record(Level.TROUBLE, "cannot look")
    assert [event async for event in journal.follow(0, forever=False)] == [
        Event(1, 1234.5, Level.CHANGE, "ready", "files"),
        Event(2, 1234.5, Level.TROUBLE, "cannot look", None),
    ]
    assert journal.last == 2


async def test_only_events_after_the_given_number_are_shown() -> None:
    journal = Journal()
    for word in ("one", "two", "three"):
        journal.record(Level.CHANGE, word)
    assert await sentences(journal, 1) == ["two", "three"]
    assert await sentences(journal, 3) == []


async def test_the_oldest_events_are_dropped() -> None:
    journal = Journal()
    for number in range(KEPT_EVENTS + 1):
        journal.record(Level.DETAIL, str(number))
    kept = await sentences(journal)
    assert (len(kept), kept[0], journal.last) == (2000, "1", 2001)


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        (Level.DETAIL, logging.DEBUG),
        (Level.PROGRESS, logging.INFO),
        (Level.CHANGE, logging.INFO),
        (Level.TROUBLE, logging.WARNING),
    ],
)
def test_an_event_is_logged_with_its_service_first(
    caplog: pytest.LogCaptureFixture, level: Level, severity: int
) -> None:
    caplog.set_level(logging.DEBUG, logger="mcpmesh")
    journal = Journal()
    journal.record(level, "100 % done", "files")
    journal.record(level, "done")
    assert caplog.record_tuples == [
        ("mcpmesh", severity, "files: 100 % done"),
        ("mcpmesh", severity, "mesh: done"),
    ]


async def test_a_client_that_follows_gets_new_events_until_the_journal_closes() -> None:
    journal, found = Journal(), []

    async def follow() -> None:
        async for event in journal.follow(1, forever=True):
            found.append(event.sentence)

    journal.record(Level.CHANGE, "before")
    journal.record(Level.CHANGE, "one")
    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    assert found == ["one"]
    for word in ("two", "three"):
        journal.record(Level.CHANGE, word)
        await asyncio.sleep(0)
    assert found == ["one", "two", "three"] and not following.done()
    journal.record(Level.CHANGE, "last")
    journal.close()
    await asyncio.wait_for(following, 5)
    assert found == ["one", "two", "three", "last"]


async def test_an_event_recorded_while_a_client_is_busy_is_not_missed() -> None:
    journal = Journal()
    journal.record(Level.CHANGE, "one")
    events = journal.follow(0, forever=True)
    assert (await anext(events)).sentence == "one"
    journal.record(Level.CHANGE, "two")
    async with asyncio.timeout(5):
        assert (await anext(events)).sentence == "two"
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_closed_journal_ends_a_client_that_comes_later() -> None:
    journal = Journal()
    journal.record(Level.CHANGE, "one")
    journal.close()
    async with asyncio.timeout(5):
        assert [event.sentence async for event in journal.follow(0, forever=True)] == ["one"]
