"""Tries probes and claims within time limits. Whatever goes wrong becomes a failed finding."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from mcpmesh.errors import MeshError
from mcpmesh.model.agent_reports import Claim
from mcpmesh.verify.finding import CannotTry, Diagnosis, Finding, conclude, fails
from mcpmesh.verify.time_limits import CLAIM_SECONDS

T = TypeVar("T")


async def try_each(
    things: Iterable[T],
    probe: Callable[[T], Awaitable[Finding]],
    seconds: float,
    diagnose: Callable[[T], Diagnosis],
) -> list[Finding]:
    """One finding for each thing, in order; all are probed at once, each for at most `seconds`.

    `diagnose` is asked about a thing whose probe raised an error or took too long.
    """
    return list(await asyncio.gather(*(_try_one(thing, probe, seconds, diagnose) for thing in things)))


async def _try_one(
    thing: T, probe: Callable[[T], Awaitable[Finding]], seconds: float, diagnose: Callable[[T], Diagnosis]
) -> Finding:
    try:
        async with asyncio.timeout(seconds):
            return await probe(thing)
    except CannotTry as error:
        return fails(str(error), error.next_step)
    except TimeoutError:
        evidence = f"no answer within {seconds:.0f} s"
    except (MeshError, OSError) as error:
        evidence = str(error) or repr(error)
    state, next_step = diagnose(thing)
    return fails(f"{evidence}; {state}" if state else evidence, next_step)


async def try_claim(service: str | None, title: str, work: Awaitable[Sequence[Finding]], next_step: str) -> Claim:
    """The claim that `work` gives the findings for.

    It never raises: a bug in one claim must not hide the others. `next_step` is for what nobody foresaw.
    """
    try:
        async with asyncio.timeout(CLAIM_SECONDS):
            return conclude(service, title, await work)
    except CannotTry as error:
        finding = fails(str(error), error.next_step)
    except TimeoutError:
        finding = fails(f"could not be tried within {CLAIM_SECONDS:.0f} s", next_step)
    except Exception as error:  # a bug: the claim fails and says why
        finding = fails(f"could not be tried: {error!r}", next_step)
    return conclude(service, title, [finding])
