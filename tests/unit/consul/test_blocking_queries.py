from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from mcpmesh.consul.blocking_queries import changes

PATHS = {"/one": "one"}


class Consul:
    """Blocks as Consul does, until `index` differs; counts the queries."""

    def __init__(self) -> None:
        self.index = 5
        self.away = False
        self.queries = 0
        self._turn = asyncio.Condition()

    async def query(self, path: str, index: int) -> int:
        self.queries += 1
        if self.away:
            raise ConnectionError
        async with self._turn:
            await self._turn.wait_for(lambda: index == 0 or self.away or self.index != index)
        if self.away:
            raise ConnectionError
        return self.index

    async def becomes(self, index: int | None = None, away: bool = False) -> None:
        async with self._turn:
            self.index, self.away = self.index if index is None else index, away
            self._turn.notify_all()

    async def queried_again(self, times: int = 1) -> None:
        before = self.queries
        async with asyncio.timeout(60):
            while self.queries < before + times:
                await asyncio.sleep(0.001)


async def test_a_change_is_yielded_and_an_unchanged_answer_is_not() -> None:
    consul = Consul()
    async with aclosing(changes(consul.query, PATHS, (ConnectionError,), 0.001)) as words:
        word = asyncio.create_task(anext(words))
        await consul.queried_again(2)
        assert not word.done()
        assert consul.queries == 2  # the first one, and the one that blocks
        await consul.becomes(6)
        assert await asyncio.wait_for(word, 60) == "one"


async def test_the_return_of_consul_is_a_change_even_with_the_old_index() -> None:
    consul = Consul()
    async with aclosing(changes(consul.query, PATHS, (ConnectionError,), 0.001)) as words:
        word = asyncio.create_task(anext(words))
        await consul.queried_again(2)
        await consul.becomes(away=True)
        await consul.queried_again(2)
        assert not word.done()
        await consul.becomes(away=False)
        assert await asyncio.wait_for(word, 60) == "one"


async def test_an_index_that_goes_back_is_a_change() -> None:
    consul = Consul()
    async with aclosing(changes(consul.query, PATHS, (ConnectionError,), 0.001)) as words:
        word = asyncio.create_task(anext(words))
        await consul.queried_again(2)
        await consul.becomes(2)
        assert await asyncio.wait_for(word, 60) == "one"
        word = asyncio.create_task(anext(words))
        await consul.queried_again(1)
        await consul.becomes(3)
        assert await asyncio.wait_for(word, 60) == "one"


async def test_several_changes_before_the_next_read_are_yielded_once() -> None:
    consul = Consul()
    async with aclosing(changes(consul.query, PATHS, (ConnectionError,), 0.001)) as words:
        word = asyncio.create_task(anext(words))
        await consul.queried_again(2)
        await consul.becomes(6)
        await word
        for index in (7, 8, 9):
            queries = consul.queried_again()
            await consul.becomes(index)
            await queries
        assert await asyncio.wait_for(anext(words), 60) == "one"
        word = asyncio.create_task(anext(words))
        await consul.becomes(10)
        assert await asyncio.wait_for(word, 60) == "one"


async def test_an_unexpected_error_is_raised() -> None:
    async def query(path: str, index: int) -> int:
        raise ZeroDivisionError

    async with aclosing(changes(query, PATHS, (ConnectionError,), 0.001)) as words:
        with pytest.raises(ZeroDivisionError):
            await anext(words)


async def test_closing_it_leaves_no_query_behind() -> None:
    consul = Consul()
    before = asyncio.all_tasks()
    async with aclosing(changes(consul.query, {"/one": "one", "/two": "two"}, (ConnectionError,), 0.001)) as words:
        word = asyncio.create_task(anext(words))
        await consul.queried_again(4)
        word.cancel()
        with pytest.raises(asyncio.CancelledError):
            await word
    assert asyncio.all_tasks() == before
