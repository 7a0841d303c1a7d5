"""Which draining instances have finished their calls."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tests.unit.plan.samples import INGRESS, INGRESS_ID, MESH, NOTHING, desired, spec

from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.model.observed_state import Kong, KongContent, Registration, Sidecar
from mcpmesh.model.service import Timeouts
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.reconcile.drain_tracker import DrainTracker

WANTED = desired(spec("files", timeouts=Timeouts(drain=20.0)))
DRAINING = Registration("one", "files", 1, 2, "d", draining=True, passing=True)
BUSY = Sidecar("one", "files", 7, 2, "a", ready=True, active=1)
QUIET = replace(BUSY, active=0)
INGRESS_ENVOY = Sidecar(INGRESS_ID, INGRESS, 8, 8000, "a", ready=True)
KONG = Kong(9, 8000, listening=True, content=KongContent("hash"))


def process(instance: str, drain: float) -> Process:
    return Process(1, Mark(MESH, "/home", "shim", instance, "files", drain=drain))


class Tracked:
    """A tracker with a clock, asked about one draining instance unless told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0
        self.tracker = DrainTracker(lambda: self.now)
        self.processes: dict[str, Process] = {}

    def drained(
        self,
        *sidecars: Sidecar,
        registrations: Collection[Registration] = (DRAINING,),
        target: DesiredState = WANTED,
        kong: Kong | None = None,
    ) -> frozenset[str]:
        by_id = {sidecar.instance: sidecar for sidecar in sidecars}
        return self.tracker.drained(target, registrations, by_id, self.processes, kong)

    def first_time(self, *sidecars: Sidecar, target: DesiredState = WANTED, kong: Kong | None = None) -> float | None:
        """After how many seconds (in steps of half a second, a minute at most) something has drained."""
        begin = self.now
        while self.now - begin < 60:
            if self.drained(*sidecars, target=target, kong=kong):
                return self.now - begin
            self.now += 0.5
        return None


def test_an_instance_without_calls_has_drained_after_a_second() -> None:
    for sidecars in ((QUIET,), (replace(BUSY, ready=False),), ()):
        assert Tracked().first_time(*sidecars) == 1.0


def test_an_instance_with_calls_has_the_time_of_its_service() -> None:
    tracked = Tracked()
    tracked.processes = {"one": process("one", 7.0)}
    assert tracked.first_time(BUSY) == 20.0


def test_an_instance_of_an_unwanted_service_has_the_time_of_its_mark() -> None:
    tracked = Tracked()
    tracked.processes = {"one": process("one", 7.0), "two": process("two", 9.0)}
    assert tracked.first_time(BUSY, target=NOTHING) == 7.0


def test_without_any_workload_the_time_is_ten_seconds() -> None:
    assert Tracked().first_time(BUSY, target=NOTHING) == 10.0


def test_the_ingress_has_as_much_time_as_any_instance() -> None:
    tracked = Tracked()
    tracked.processes = {"one": process("one", 7.0), "two": process("two", 9.0)}
    tracked.tracker.note_drain(INGRESS_ID)
    tracked.now += 8.5
    busy = replace(INGRESS_ENVOY, active=1)
    assert INGRESS_ID not in tracked.drained(busy, registrations=(), target=NOTHING)
    tracked.now += 0.5
    assert tracked.drained(busy, registrations=(), target=NOTHING) == {INGRESS_ID}


def test_only_what_drains_can_have_drained() -> None:
    tracked = Tracked()
    for _ in range(2):
        assert tracked.drained(QUIET, registrations=(replace(DRAINING, draining=False),)) == frozenset()
        tracked.now += 60.0
    assert not tracked.tracker.is_draining("one")


def test_the_time_counts_anew_after_a_drain_that_was_ended() -> None:
    tracked = Tracked()
    assert not tracked.drained(QUIET) and tracked.tracker.is_draining("one")
    tracked.drained(QUIET, registrations=())
    tracked.now += 60.0
    assert not tracked.tracker.is_draining("one") and not tracked.drained(QUIET)


def test_a_quiet_ingress_has_drained_a_second_after_it_was_told() -> None:
    tracked = Tracked()
    assert not tracked.tracker.is_draining(INGRESS_ID)
    assert tracked.drained(INGRESS_ENVOY, registrations=(), target=NOTHING) == frozenset()
    tracked.tracker.note_drain(INGRESS_ID)
    tracked.now += 0.5
    tracked.tracker.note_drain(INGRESS_ID)
    tracked.now += 0.4
    assert tracked.drained(INGRESS_ENVOY, registrations=(), target=NOTHING) == frozenset()
    tracked.now += 0.2
    assert tracked.drained(INGRESS_ENVOY, registrations=(), target=NOTHING) == {INGRESS_ID}
    assert tracked.tracker.is_draining(INGRESS_ID)


def test_the_drain_of_an_ingress_is_forgotten_once_it_is_wanted_again() -> None:
    tracked = Tracked()
    tracked.tracker.note_drain(INGRESS_ID)
    tracked.drained(INGRESS_ENVOY, registrations=())
    assert not tracked.tracker.is_draining(INGRESS_ID)


def test_our_own_kong_has_drained_only_when_it_has_ended_or_its_time_is_over() -> None:
    for kong, expected in ((KONG, 10.0), (replace(KONG, pid=None), 1.0), (None, 1.0)):
        tracked = Tracked()
        tracked.tracker.note_drain(INGRESS_ID)
        seconds = 0.0
        while not tracked.drained(INGRESS_ENVOY, registrations=(), target=NOTHING, kong=kong):
            tracked.now += 0.5
            seconds += 0.5
        assert seconds == expected


def test_a_kong_holds_up_no_instance() -> None:
    assert Tracked().first_time(QUIET, kong=KONG) == 1.0
