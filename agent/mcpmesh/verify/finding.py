"""What one probe saw, and how findings become a claim."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mcpmesh.errors import MeshError
from mcpmesh.model.report_items import Claim

T = TypeVar("T")

# Peers answer in milliseconds; on a busy machine one, or we ourselves, may stand still for some seconds.
ANSWER_SECONDS = 10.0

# No claim takes longer (seconds); each probe in it has a shorter bound of its own.
CLAIM_SECONDS = 4 * ANSWER_SECONDS


@dataclass(frozen=True)
class Finding:
    """One thing that was tried: what was `seen`, and the `next_step` where it is not as it should be."""

    ok: bool
    seen: str
    next_step: str = ""


class CannotTry(Exception):
    """A probe that can't be made, which fails its claim: nothing is passed over in silence."""

    def __init__(self, seen: str, next_step: str) -> None:
        super().__init__(seen)
        self.next_step = next_step


def good(seen: str) -> Finding:
    """As it should be."""
    return Finding(True, seen)


def bad(seen: str, next_step: str) -> Finding:
    """Not as it should be."""
    return Finding(False, seen, next_step)


def conclude(service: str | None, title: str, findings: Sequence[Finding]) -> Claim:
    """The claim holds if every finding is good and there is one; a failed claim tells of the bad ones alone."""
    failed = [finding for finding in findings if not finding.ok]
    if not findings:
        return Claim(service, title, False, "nothing was there to try", "see what is wanted with: mcpmesh plan")
    told = failed or findings
    steps = dict.fromkeys(finding.next_step for finding in failed)
    return Claim(service, title, not failed, "; ".join(finding.seen for finding in told), "; ".join(steps))


# What else is known of a thing whose probe failed, and the next step for it.
Hint = Callable[[T], tuple[str, str]]


async def each(
    things: Iterable[T], probe: Callable[[T], Awaitable[Finding]], seconds: float, hint: Hint[T]
) -> list[Finding]:
    """One finding for each thing, all tried at once; a probe that fails or takes too long is a bad one."""
    return list(await asyncio.gather(*(_attempt(thing, probe, seconds, hint) for thing in things)))


async def _attempt(thing: T, probe: Callable[[T], Awaitable[Finding]], seconds: float, hint: Hint[T]) -> Finding:
    try:
        async with asyncio.timeout(seconds):
            return await probe(thing)
    except CannotTry as error:
        return bad(str(error), error.next_step)
    except TimeoutError:
        seen = f"no answer within {seconds:.0f} s"
    except (MeshError, OSError) as error:
        seen = str(error) or repr(error)
    more, next_step = hint(thing)
    return bad(f"{seen}; {more}" if more else seen, next_step)


async def made(service: str | None, title: str, work: Awaitable[Sequence[Finding]], next_step: str) -> Claim:
    """A claim, whatever happens: a bug in one must not hide the others."""
    try:
        async with asyncio.timeout(CLAIM_SECONDS):
            return conclude(service, title, await work)
    except CannotTry as error:
        finding = bad(str(error), error.next_step)
    except TimeoutError:
        finding = bad(f"could not be tried within {CLAIM_SECONDS:.0f} s", next_step)
    except Exception as error:  # see above: the claim fails and says why
        finding = bad(f"could not be tried: {error!r}", next_step)
    return conclude(service, title, [finding])
