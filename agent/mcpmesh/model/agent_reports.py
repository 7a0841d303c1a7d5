"""The items of the lists that the agent reports: events, steps of a plan, claims of `verify`, tools."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """The importance of an event, lowest first."""

    DETAIL = "detail"  # one action was applied
    PROGRESS = "progress"  # something takes time; the sentence says how far it is
    CHANGE = "change"  # the state of something changed
    TROUBLE = "trouble"  # something has to be fixed


@dataclass(frozen=True)
class Event:
    """One sentence about what happened; `number` grows by one, `time` is in Unix seconds."""

    number: int
    time: float
    level: Level
    sentence: str
    service: str | None = None


@dataclass(frozen=True)
class Step:
    """One action that a pass would apply or, where `waiting`, one thing that it waits for."""

    service: str
    sentence: str
    waiting: bool = False


@dataclass(frozen=True)
class Claim:
    """One claim that `verify` tried: `evidence` says what was done and seen, `next_step` how to fix a failure."""

    service: str | None
    claim: str
    ok: bool
    evidence: str
    next_step: str = ""


@dataclass(frozen=True)
class Tool:
    """A tool as its server describes it."""

    service: str
    name: str
    description: str = ""
    input_schema: dict[str, Any] = field(default_factory=dict)
