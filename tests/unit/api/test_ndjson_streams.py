"""Streams end when their reader leaves, except for the one that has to be finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tests.unit.api.conftest import Served

from mcpmesh.api import ndjson_streams as streams
from mcpmesh.api.client import AgentClient
from mcpmesh.api.ndjson_streams import Streams
from mcpmesh.errors import Refused


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_lines_arrive_as_they_happen(served: Served, client: AgentClient) -> None:
    stream = aiter(client.events(0, follow=True))
    for number in (1, 2, 3):
        await served.agent.say(f"event {number}")
        assert (await anext(stream)).number == number


async def test_a_reader_that_leaves_ends_the_iterator(served: Served) -> None:
    async with served.http.stream("GET", "/v1/logs/files", params={"follow": True}) as answer:
        assert await anext(answer.aiter_lines()) == '{"line":"first line"}'
    await until(lambda: served.agent.closed == ["logs"])


async def test_a_reader_that_leaves_a_silent_stream_ends_it_too(served: Served) -> None:
    async with served.http.stream("GET", "/v1/events", params={"follow": True}):
        assert served.agent.asked == [("events", 0, True)]
    await until(lambda: served.agent.closed == ["events"])


async def test_a_slow_reader_slows_the_agent_down_instead_of_filling_memory() -> None:
    given = 0

    async def endless() -> AsyncIterator[int]:
        nonlocal given
        while True:
            given += 1
            yield given
            await asyncio.sleep(0)

    streams = Streams()
    await streams.respond(endless(), "endless")
    for _ in range(10_000):
        await asyncio.sleep(0)
    assert given < 1000
    await streams.close()


async def test_a_quiet_stream_is_kept_alive_by_empty_lines() -> None:
    async def silent() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    streams = Streams(keep_alive_seconds=0.01)
    answer = await streams.respond(silent(), "silent")
    body = aiter(answer.body_iterator)
    assert [await anext(body), await anext(body)] == [b"\n", b"\n"]
    await streams.close()


async def test_down_goes_on_when_its_reader_leaves(served: Served) -> None:
    served.agent.may_leave.clear()
    async with served.http.stream("POST", "/v1/down") as answer:
        assert "drained" in await anext(answer.aiter_lines())
    served.agent.may_leave.set()
    await asyncio.wait_for(served.agent.gone.wait(), 60)


async def test_down_asked_for_twice_is_done_once_and_told_to_both_in_full(served: Served, client: AgentClient) -> None:
    served.agent.may_leave.clear()
    first = aiter(client.down())
    told = [await anext(first)]
    second = aiter(client.down())
    told_again = [await anext(second)]
    served.agent.may_leave.set()
    told += [event async for event in first]
    assert [event.sentence for event in told] == served.agent.farewell
    assert told_again + [event async for event in second] == told
    assert await _all(client) == told
    assert served.agent.asked == [("down",)]


async def test_down_that_failed_can_be_asked_for_again(served: Served, client: AgentClient) -> None:
    served.agent.late_error = Refused("cannot stop files: it does not die")
    with pytest.raises(Refused, match="does not die"):
        await _all(client)
    served.agent.late_error = None
    assert len(await _all(client)) == len(served.agent.farewell)


async def test_a_bug_breaks_the_stream_off_and_is_logged(
    served: Served, client: AgentClient, caplog: pytest.LogCaptureFixture
) -> None:
    served.agent.late_error = ZeroDivisionError("a bug")  # type: ignore[assignment]
    with pytest.raises(Exception, match="cannot reach the agent"):
        [claim async for claim in client.verify([])]
    assert "a bug" in caplog.text


async def test_streams_end_with_the_server(served: Served) -> None:
    async with served.http.stream("GET", "/v1/events", params={"follow": True}) as answer:
        served.task.cancel()
        lines = [line async for line in answer.aiter_lines()]
    assert "the agent ended in the middle of its answer" in lines[-1]
    await asyncio.wait({served.task}, timeout=60)
    assert served.agent.closed == ["events"]


async def test_what_down_said_last_arrives_though_the_server_ends_with_it(
    served: Served, client: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It ends with the last line; who reads may be slow.
    monkeypatch.setattr(streams, "CLOSING_SECONDS", 20.0)
    served.agent.farewell = [f"step {number}" for number in range(600)]

    async def leave() -> None:
        await served.agent.gone.wait()
        served.task.cancel()

    leaving = asyncio.create_task(leave())
    assert [event.sentence async for event in client.down()] == served.agent.farewell
    await leaving


async def _all(client: AgentClient) -> list[object]:
    return [event async for event in client.down()]
