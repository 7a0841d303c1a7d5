"""The waits between restarts."""

from __future__ import annotations

import pytest

from mcpmesh.shim.config import Limits
from mcpmesh.shim.server.channel import OutputTail, ServerExit
from mcpmesh.shim.server.lifecycle import Lifecycle

EXIT = ServerExit(code=4)


def waits(state: Lifecycle, number: int) -> list[float]:
    """The waits after so many failed starts in a row."""
    found = []
    for _ in range(number):
        state.down("the server exited with code 4", EXIT, OutputTail(), was_stable=False)
        found.append(state.retry_seconds)
    return found


def test_each_failure_doubles_the_wait_up_to_the_longest():
    state = Lifecycle(Limits(backoff_seconds=0.5, backoff_max_seconds=30.0))
    assert waits(state, 9) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_after_a_stable_run_the_first_wait_is_short_again():
    state = Lifecycle(Limits(backoff_seconds=0.5))
    waits(state, 6)
    state.down("the server exited with code 4", EXIT, OutputTail(), was_stable=True)
    assert state.retry_seconds == 0.5
    assert waits(state, 2) == [1.0, 2.0]


@pytest.mark.parametrize("failures", [100, 5000])
def test_a_server_that_never_starts_is_still_tried_after_the_longest_wait(failures):
    assert waits(Lifecycle(Limits(backoff_max_seconds=7.0)), failures)[-1] == 7.0
