"""When an instance is proven, and which proof counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mcpmesh.model.observed_state import Proof
from mcpmesh.model.service import ServiceSpec, Stdio
from mcpmesh.reconcile.proof_attempt import ProofTarget
from mcpmesh.reconcile.prover import Prover

TARGET = ProofTarget(ServiceSpec("files", Stdio("server")), "127.0.0.1", 20002)
GOOD, BAD = Proof(True), Proof(False, "HTTP 403")


class Proven:
    """A prover whose exchange gives `answer`, or waits while there is none."""

    def __init__(self) -> None:
        self.now = 100.0
        self.answer: Proof | None = GOOD
        self.asked: list[ProofTarget] = []
        self.changes = 0
        self.prover = Prover(self._exchange, 15.0, self._changed, lambda: self.now)

    def _changed(self) -> None:
        self.changes += 1

    async def _exchange(self, target: ProofTarget) -> Proof:
        self.asked.append(target)
        while self.answer is None:
            await asyncio.sleep(0)
        return self.answer

    async def prove(self, **targets: ProofTarget) -> dict[str, Proof]:
        """The proofs at once; those that are due are made then."""
        found = self.prover.prove(targets)
        await self.idle()
        return found

    async def idle(self) -> None:
        """Waits until no proof is under way, unless there is no answer."""
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def proven() -> AsyncIterator[Proven]:
    found = Proven()
    yield found
    await found.prover.close()


async def test_an_instance_has_no_proof_before_its_first_exchange(proven: Proven) -> None:
    assert await proven.prove(one=TARGET) == {}
    assert await proven.prove(one=TARGET) == {"one": GOOD}
    assert proven.asked == [TARGET]


async def test_a_good_proof_is_repeated_after_its_time(proven: Proven) -> None:
    for seconds, asked in ((0.0, 1), (14.9, 1), (0.1, 2)):
        proven.now += seconds
        await proven.prove(one=TARGET)
        assert len(proven.asked) == asked


async def test_a_failed_proof_is_repeated_after_a_second(proven: Proven) -> None:
    proven.answer = BAD
    for seconds, asked in ((0.0, 1), (0.9, 1), (0.1, 2)):
        proven.now += seconds
        await proven.prove(one=TARGET)
        assert len(proven.asked) == asked
    assert await proven.prove(one=TARGET) == {"one": BAD}


async def test_only_another_proof_than_before_is_a_change(proven: Proven) -> None:
    changes = []
    for answer in (GOOD, GOOD, BAD, BAD, replace(BAD, error="HTTP 500"), GOOD):
        proven.answer = answer
        proven.now += 15.0
        await proven.prove(one=TARGET)
        changes.append(proven.changes)
    assert changes == [1, 1, 2, 2, 3, 4]


async def test_one_exchange_at_a_time_and_a_slow_one_delays_no_other(proven: Proven) -> None:
    proven.answer = None
    await proven.prove(one=TARGET)
    await proven.prove(one=TARGET, two=TARGET)
    assert len(proven.asked) == 2
    proven.answer = GOOD
    await proven.idle()
    assert await proven.prove(one=TARGET, two=TARGET) == {"one": GOOD, "two": GOOD}


@pytest.mark.parametrize("moved", [replace(TARGET, port=20003), replace(TARGET, host="172.18.0.7")])
async def test_a_proof_does_not_count_at_another_address(proven: Proven, moved: ProofTarget) -> None:
    await proven.prove(one=TARGET)
    assert await proven.prove(one=moved) == {}
    assert await proven.prove(one=moved) == {"one": GOOD} and proven.asked == [TARGET, moved]


async def test_an_instance_that_cannot_be_proven_for_now_loses_its_proof(proven: Proven) -> None:
    await proven.prove(one=TARGET, two=TARGET)
    assert await proven.prove(two=TARGET) == {"two": GOOD}
    assert await proven.prove(one=TARGET, two=TARGET) == {"two": GOOD}


async def test_close_ends_the_exchanges_under_way(proven: Proven) -> None:
    proven.answer = None
    await proven.prove(one=TARGET, two=TARGET)
    await proven.prover.close()
    assert asyncio.all_tasks() == {asyncio.current_task()} and proven.changes == 0


async def test_an_exchange_that_broke_is_not_under_way_any_more(proven: Proven) -> None:
    proven.answer = None
    await proven.prove(one=TARGET)
    await proven.prover.close()
    proven.answer = GOOD
    await proven.prove(one=TARGET)
    assert await proven.prove(one=TARGET) == {"one": GOOD}
