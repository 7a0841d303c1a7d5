"""When a process that does not answer is called stuck."""

from __future__ import annotations

import pytest

from mcpmesh.reconcile.stuck_process_detector import StuckProcessDetector

LIMITS = {7: 10.0}


def test_a_process_that_is_silent_for_longer_than_its_limit_is_stuck() -> None:
    liveness = StuckProcessDetector()
    assert [liveness.stuck(LIMITS, now) for now in (100.0, 105.0, 110.0)] == [frozenset()] * 3
    assert liveness.stuck(LIMITS, 110.5) == {7}


def test_each_process_has_its_own_limit() -> None:
    liveness = StuckProcessDetector()
    limits = {7: 10.0, 8: 20.0}
    found = [liveness.stuck(limits, now) for now in (100.0, 105.0, 111.0, 121.0)]
    assert found == [frozenset(), frozenset(), {7}, {7, 8}]


@pytest.mark.parametrize(("pause", "stuck"), [(15.0, {7}), (15.1, set())])
def test_passes_before_a_long_pause_prove_nothing(pause: float, stuck: set[int]) -> None:
    liveness = StuckProcessDetector()
    for now in (100.0, 100.2, 100.4):
        liveness.stuck(LIMITS, now)
    assert liveness.stuck(LIMITS, 100.4 + pause) == stuck


def test_a_process_is_stuck_again_some_passes_after_a_long_pause() -> None:
    liveness = StuckProcessDetector()
    assert not any(liveness.stuck(LIMITS, now) for now in (100.0, 105.0, 160.0, 160.2, 160.5, 170.0))
    assert liveness.stuck(LIMITS, 170.5) == {7}


def test_two_passes_are_no_proof() -> None:
    liveness = StuckProcessDetector()
    assert not any(liveness.stuck(LIMITS, now) for now in (100.0, 114.0))
    assert liveness.stuck(LIMITS, 114.2) == {7}


def test_a_process_that_answered_in_between_begins_anew() -> None:
    liveness = StuckProcessDetector()
    for now in (100.0, 105.0):
        assert not liveness.stuck(LIMITS, now)
    assert not liveness.stuck({}, 109.0)
    assert not any(liveness.stuck(LIMITS, now) for now in (111.0, 116.0, 121.0))
    assert liveness.stuck(LIMITS, 121.5) == {7}
