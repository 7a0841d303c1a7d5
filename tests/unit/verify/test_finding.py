"""How findings become claims, whatever happens to a probe."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mcpmesh.errors import Unreachable
from mcpmesh.model.agent_reports import Claim
from mcpmesh.verify.attempts import try_claim, try_each
from mcpmesh.verify.finding import CannotTry, Diagnosis, Finding, conclude, fails, holds


def diagnose(thing: str) -> Diagnosis:
    return Diagnosis(f"{thing} is odd", f"repair {thing}")


def test_a_claim_holds_if_every_finding_holds() -> None:
    claim = conclude("files", "it is so", [holds("one"), holds("two")])
    assert claim == Claim("files", "it is so", True, "one; two")


def test_a_failed_claim_shows_only_failures_and_each_step_once() -> None:
    findings = [holds("one"), fails("two", "repair it"), fails("three", "repair it"), fails("four", "or this")]
    claim = conclude("files", "it is so", findings)
    assert claim == Claim("files", "it is so", False, "two; three; four", "repair it; or this")


def test_a_claim_about_nothing_does_not_hold() -> None:
    assert not conclude("files", "it is so", []).ok


async def test_each_thing_is_tried_whatever_happens_to_the_others() -> None:
    async def probe(thing: str) -> Finding:
        if thing == "a":
            raise Unreachable("cannot reach a")
        if thing == "b":
            raise CannotTry("b is not there", "start b")
        if thing == "c":
            await asyncio.Event().wait()
        if thing == "d":
            raise ConnectionResetError(104, "reset")
        return holds(thing)

    assert await try_each("abcde", probe, 0.05, diagnose) == [
        fails("cannot reach a; a is odd", "repair a"),
        fails("b is not there", "start b"),
        fails("no answer within 0 s; c is odd", "repair c"),
        fails("[Errno 104] reset; d is odd", "repair d"),
        holds("e"),
    ]


async def test_a_bug_in_one_claim_fails_it_and_says_so() -> None:
    async def work() -> Sequence[Finding]:
        raise KeyError("surprise")

    claim = await try_claim("files", "it is so", work(), "see the log")
    assert claim == Claim("files", "it is so", False, "could not be tried: KeyError('surprise')", "see the log")


async def test_a_claim_that_cannot_be_tried_fails_with_its_own_step() -> None:
    async def work() -> Sequence[Finding]:
        raise CannotTry("Consul is away", "start Consul")

    assert await try_claim(None, "it is so", work(), "?") == Claim(
        None, "it is so", False, "Consul is away", "start Consul"
    )
