"""When a process that says nothing is taken for stuck."""

from __future__ import annotations

from mcpmesh.reconcile.liveness import Silence

BOUNDS = {7: 10.0}


def test_who_is_silent_for_longer_than_its_bound_is_stuck() -> None:
    silence = Silence()
    assert [bool(silence.stuck(BOUNDS, now)) for now in (0.0, 5.0, 10.0)] == [False, False, False]
    assert silence.stuck(BOUNDS, 10.5) == {7}


def test_a_pause_between_two_looks_proves_nothing() -> None:
    silence = Silence()
    assert not any(silence.stuck(BOUNDS, now) for now in (0.0, 5.0, 60.0, 60.2, 60.5, 70.0))
    assert silence.stuck(BOUNDS, 70.5) == {7}


def test_two_looks_are_no_proof() -> None:
    silence = Silence()
    assert not any(silence.stuck(BOUNDS, now) for now in (0.0, 14.0))
    assert silence.stuck(BOUNDS, 14.2) == {7}


def test_who_spoke_meanwhile_begins_anew() -> None:
    silence = Silence()
    for now in (0.0, 5.0):
        assert not silence.stuck(BOUNDS, now)
    assert not silence.stuck({}, 9.0)
    assert not any(silence.stuck(BOUNDS, now) for now in (11.0, 16.0, 21.0))
