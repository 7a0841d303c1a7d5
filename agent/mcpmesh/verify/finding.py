"""A finding is the result of one probe. A claim is concluded from its findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mcpmesh.model.agent_reports import Claim


@dataclass(frozen=True)
class Finding:
    """What one probe saw (`evidence`), and the `next_step` where it is not as it should be."""

    ok: bool
    evidence: str
    next_step: str = ""


class Diagnosis(NamedTuple):
    """What else is known of a thing whose probe failed, and what to do about it."""

    state: str
    next_step: str


class CannotTry(Exception):
    """A probe cannot be made. The claim fails with this reason, so that nothing is passed over in silence."""

    def __init__(self, evidence: str, next_step: str) -> None:
        super().__init__(evidence)
        self.next_step = next_step


def holds(evidence: str) -> Finding:
    """The finding for what is as it should be."""
    return Finding(True, evidence)


def fails(evidence: str, next_step: str) -> Finding:
    """The finding for what is not as it should be."""
    return Finding(False, evidence, next_step)


def conclude(service: str | None, title: str, findings: Sequence[Finding]) -> Claim:
    """The claim holds if there are findings and all of them hold. A failed claim shows the failed ones alone."""
    if not findings:
        return Claim(service, title, False, "nothing was there to try", "see what is wanted with: mcpmesh plan")
    failed = [finding for finding in findings if not finding.ok]
    evidence = "; ".join(finding.evidence for finding in failed or findings)
    steps = dict.fromkeys(finding.next_step for finding in failed)
    return Claim(service, title, not failed, evidence, "; ".join(steps))
