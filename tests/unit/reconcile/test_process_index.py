"""What one look makes of the processes that it found."""

from __future__ import annotations

from collections.abc import Collection

from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.reconcile.process_index import first_of_each


def process(pid: int, role: str, instance: str) -> Process:
    return Process(pid, Mark("m", "/home/m", role, instance))


def test_the_first_of_an_instance_is_the_one_that_started_the_others_though_pids_began_anew() -> None:
    shell, kong, web, other = (
        process(32_767, "kong", "m-ingress"),
        process(7, "kong", "m-ingress"),
        process(20, "plain", "m-web-1"),
        process(21, "plain", "m-web-1"),
    )
    parents = {7: 32_767, 21: 20}

    def descends_from(process: Process, ancestors: Collection[int]) -> bool:
        return process.pid in ancestors or parents.get(process.pid) in ancestors

    found = [web, shell, other, kong]
    assert first_of_each(found, ("kong",), descends_from) == {"m-ingress": shell}
    assert first_of_each(found, ("plain",), descends_from) == {"m-web-1": web}


def test_of_two_that_came_from_neither_the_one_of_the_lower_number_is_the_first() -> None:
    two, one = process(31, "shim", "m-files-1"), process(30, "shim", "m-files-1")
    assert first_of_each([two, one], ("shim",), lambda *_: False) == {"m-files-1": one}
