"""Server-sent events: the same however the stream is cut, bounded, and each byte is read once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from mcpmesh.shim.server.sse import OversizeEvent, read_events

MIB = 1024 * 1024


async def found(stream: bytes, size: int, limit: int = MIB) -> list[bytes | OversizeEvent]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(stream), size):
            yield stream[start : start + size]

    return [event async for event in read_events(chunks(), limit)]


BREAKS = st.sampled_from(["\n", "\r", "\r\n"])
LINES = st.sampled_from(["data: one", "data:two", "data:  three", "event: message", ": still here", "id: 7", "", ""])
TEXTS = {"data: one": b"one", "data:two": b"two", "data:  three": b" three"}


@given(st.lists(LINES, max_size=12), BREAKS, st.integers(1, 9))
async def test_events_are_the_same_however_the_stream_is_cut(lines, line_break, size):
    expected, data = [], []
    for line in lines:
        if line in TEXTS:
            data.append(TEXTS[line])
        elif not line and data:
            expected.append(b" ".join(data))
            data = []
    stream = "".join(line + line_break for line in lines).encode()
    assert await found(stream, size) == expected


async def test_an_event_over_the_limit_is_reported_whether_it_is_one_line_or_many():
    long = b'{"id":5,"result":{"x":"' + b"x" * 400 + b'"}}'
    many = b"".join(b"data: " + long[n : n + 30] + b"\n" for n in range(0, len(long), 30))
    for event in (b"data: " + long + b"\n", many):
        before, over, after = await found(b"data: 1\n\n" + event + b"\ndata: 2\n\n", 64, limit=200)
        assert (before, after) == (b"1", b"2")
        assert isinstance(over, OversizeEvent)
        assert over.head.startswith(b'{"id":5,"result":')
        assert len(long) <= over.size <= len(event)


async def test_an_event_over_the_limit_is_reported_when_the_stream_ends_in_it():
    (over,) = await found(b"data: " + b"x" * 1000, 64, limit=200)
    assert isinstance(over, OversizeEvent)


async def test_comments_and_other_fields_are_ignored():
    assert await found(b": still here\nid: 12345678\n" * 1000 + b"data: 1\n\n", 64, limit=200) == [b"1"]


async def test_a_long_event_in_many_chunks_costs_no_more_than_its_bytes():
    began = time.process_time()
    (event,) = await found(b"data: " + b"x" * (4 * MIB) + b"\n\n", 1024, limit=8 * MIB)
    assert len(event) == 4 * MIB
    # Well under a tenth of a second; thirty seconds if each chunk made the code read all earlier ones again.
    assert time.process_time() - began < 3
