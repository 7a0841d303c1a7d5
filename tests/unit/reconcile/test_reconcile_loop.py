"""The loop outlasts a look that could not be made, and goes by the latest that counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.plan.fake_mesh import NOTHING, World

from mcpmesh.errors import MeshError, SettingsError, Unreachable, WorkloadError
from mcpmesh.model.observed_state import ObservedState
from mcpmesh.reconcile.journal import Journal
from mcpmesh.reconcile.reconcile_loop import ReconcileLoop


class Looks:
    """An observer that cannot look while `error` is set; `meanwhile` happens once during a look."""

    def __init__(self, error: MeshError | None) -> None:
        self.error = error
        self.meanwhile: Callable[[], None] | None = None

    async def look(self, desired: Any, held: Any) -> ObservedState:
        if self.error:
            raise self.error
        if self.meanwhile:
            self.meanwhile()
            self.meanwhile = None
        return World().observed()


class Hands:
    """An applier with nothing to do."""

    def held(self, desired: Any) -> dict[str, str]:
        return {}

    def failure(self, name: str) -> str:
        return ""

    def forget(self, name: str) -> None:
        """There is nothing to remember."""

    async def allow_retries(self, observed: ObservedState) -> None:
        """There is nobody to tell."""


@pytest.mark.parametrize("kind", [WorkloadError, SettingsError, Unreachable])
async def test_a_look_that_fails_is_told_once_and_tried_again(kind: type[MeshError]) -> None:
    looks: Any = Looks(kind("cannot look"))
    hands: Any = Hands()
    journal = Journal()
    loop = ReconcileLoop(NOTHING, looks, hands, journal, "http://ingress", 10.0)
    await loop.run_pass()
    await loop.run_pass()
    assert not loop.in_sync and not loop.passes
    assert [event.sentence async for event in journal.follow(0, forever=False)] == ["cannot look"]
    looks.error = None
    await loop.run_pass()
    assert loop.in_sync and loop.passes == 1


async def test_after_a_resume_only_a_look_that_began_since_says_that_all_is_well() -> None:
    looks: Any = Looks(None)
    hands: Any = Hands()
    loop = ReconcileLoop(NOTHING, looks, hands, Journal(), "http://ingress", 10.0)
    await loop.run_pass()
    loop.paused = True
    assert loop.in_sync
    looks.meanwhile = loop.resume
    await loop.run_pass()
    assert not loop.paused and not loop.in_sync
    await loop.run_pass()
    assert loop.in_sync
