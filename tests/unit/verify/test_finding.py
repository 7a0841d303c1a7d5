"""How findings become claims, whatever happens to a probe."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mcpmesh.errors import Unreachable
from mcpmesh.model.report_items import Claim
from mcpmesh.verify.finding import CannotTry, Finding, bad, conclude, each, good, made


def hint(thing: str) -> tuple[str, str]:
    return f"{thing} is odd", f"mend {thing}"


def test_a_claim_holds_when_every_finding_is_good() -> None:
    claim = conclude("files", "it is so", [good("one"), good("two")])
    assert claim == Claim("files", "it is so", True, "one; two")


def test_a_failed_claim_tells_of_what_failed_alone_and_each_step_once() -> None:
    findings = [good("one"), bad("two", "mend it"), bad("three", "mend it"), bad("four", "or this")]
    claim = conclude("files", "it is so", findings)
    assert claim == Claim("files", "it is so", False, "two; three; four", "mend it; or this")


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
        return good(thing)

    assert await each("abcde", probe, 0.05, hint) == [
        bad("cannot reach a; a is odd", "mend a"),
        bad("b is not there", "start b"),
        bad("no answer within 0 s; c is odd", "mend c"),
        bad("[Errno 104] reset; d is odd", "mend d"),
        good("e"),
    ]


async def test_a_bug_in_one_claim_fails_it_and_says_so() -> None:
    async def work() -> Sequence[Finding]:
        raise KeyError("surprise")

    claim = await made("files", "it is so", work(), "see the log")
    assert claim == Claim("files", "it is so", False, "could not be tried: KeyError('surprise')", "see the log")


async def test_a_claim_that_cannot_be_tried_fails_with_its_own_step() -> None:
    async def work() -> Sequence[Finding]:
        raise CannotTry("Consul is away", "start Consul")

    assert await made(None, "it is so", work(), "?") == Claim(None, "it is so", False, "Consul is away", "start Consul")
