"""Streams end when their client disconnects, except for `down`, which runs to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.unit.api.conftest import Served, serving

from mcpmesh.api.client import AgentClient
from mcpmesh.api.ndjson_streams import Streams, StreamTiming
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


async def test_a_client_that_disconnects_ends_the_iterator(served: Served) -> None:
    async with served.http.stream("GET", "/v1/logs/files", params={"follow": True}) as answer:
        assert await anext(answer.aiter_lines()) == '{"line":"first line"}'
    await until(lambda: served.agent.closed == ["logs"])


async def test_a_client_that_disconnects_ends_a_quiet_stream_too(served: Served) -> None:
    async with served.http.stream("GET", "/v1/events", params={"follow": True}):
        assert served.agent.asked == [("events", 0, True)]
    await until(lambda: served.agent.closed == ["events"])


async def test_a_slow_client_slows_the_iterator_down_instead_of_filling_memory() -> None:
    given = 0

    async def endless() -> AsyncIterator[int]:
        nonlocal given
        while True:
            given += 1
            yield given
            await asyncio.sleep(0)

    streams = Streams(StreamTiming(closing_seconds=0.0))
    await streams.respond(endless(), "endless")
    for _ in range(10_000):
        await asyncio.sleep(0)
    assert given < 1000
    await streams.close()


async def test_a_quiet_stream_is_kept_alive_by_empty_lines() -> None:
    async def silent() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    streams = Streams(StreamTiming(keep_alive_seconds=0.01, first_line_seconds=0.01, closing_seconds=0.0))
    answer = await streams.respond(silent(), "silent")
    body = aiter(answer.body_iterator)
    assert [await anext(body), await anext(body)] == [b"\n", b"\n"]
    await streams.close()


async def test_down_goes_on_when_its_client_disconnects(served: Served) -> None:
    served.agent.may_end.clear()
    async with served.http.stream("POST", "/v1/down") as answer:
        assert "drained" in await anext(answer.aiter_lines())
    served.agent.may_end.set()
    await asyncio.wait_for(served.agent.gone.wait(), 60)


async def test_down_requested_twice_runs_once_and_both_clients_get_all_events(
    served: Served, client: AgentClient
) -> None:
    served.agent.may_end.clear()
    first = aiter(client.down())
    events = [await anext(first)]
    second = aiter(client.down())
    same_events = [await anext(second)]
    served.agent.may_end.set()
    events += [event async for event in first]
    assert [event.sentence for event in events] == served.agent.down_events
    assert same_events + [event async for event in second] == events
    assert await _all(client) == events
    assert served.agent.asked == [("down",)]


async def test_down_that_failed_can_be_requested_again(served: Served, client: AgentClient) -> None:
    served.agent.late_error = Refused("cannot stop files: it does not die")
    with pytest.raises(Refused, match="does not die"):
        await _all(client)
    served.agent.late_error = None
    assert len(await _all(client)) == len(served.agent.down_events)


async def test_a_bug_ends_the_stream_early_and_is_logged(
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


async def test_the_last_lines_of_down_arrive_though_the_server_ends_with_them(home: Path) -> None:
    # The agent ends with the last line, while its client may still be reading.
    async with serving(home, StreamTiming(closing_seconds=20.0)) as served, AgentClient(home, 60) as client:
        served.agent.down_events = [f"step {number}" for number in range(600)]

        async def end() -> None:
            await served.agent.gone.wait()
            served.task.cancel()

        ending = asyncio.create_task(end())
        assert [event.sentence async for event in client.down()] == served.agent.down_events
        await ending


async def _all(client: AgentClient) -> list[object]:
    return [event async for event in client.down()]
