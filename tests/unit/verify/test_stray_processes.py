"""The claim that every process with the mesh's mark is accounted for."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.snapshots import snapshot_of
from tests.unit.verify.sample_mesh import INGRESS, INSTANCE, process, registration, the_target

from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.kit.marked_process import Process
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.settings import Settings
from mcpmesh.verify.claims.stray_processes import all_are_accounted_for, expected_pids, stray_process
from mcpmesh.verify.finding import fails, holds
from mcpmesh.verify.probes.network_namespaces import Namespaces
from mcpmesh.verify.probes.process_tree import Node, ProcessTree
from mcpmesh.verify.target import KongAtIngress
from mcpmesh.workload.containers.container_runtime import ContainerRuntime
from mcpmesh.workload.process_runtime import ProcessRuntime

UNRELATED = ProcessTree({})
OLD = "m-files-1-old"


class RunningProcesses(ProcessRuntime):
    """A runtime in which these processes run."""

    def __init__(self, *processes: Process) -> None:
        super().__init__("m", Path("/home/m"), PortAllocator(11100))
        self.processes = list(processes)

    async def list_processes(self) -> list[Process]:
        return self.processes


def test_the_first_process_of_each_role_and_the_agent_are_expected() -> None:
    processes = [
        process(10, "consul", "consul"),
        process(11, "gateway", INGRESS),
        process(20, "shim"),
        process(21, "server"),
        process(22, "sidecar"),
        process(30, "shim"),
        process(31, "shim", OLD),
        process(32, "gateway", "m-other"),
        process(33, "kong", INGRESS),
    ]
    assert expected_pids(the_target(), processes, {INSTANCE}, 5, UNRELATED) == {5, 10, 11, 20, 22}


def test_in_containers_the_program_of_an_image_is_expected_too() -> None:
    containers = replace(the_target(), runtime=ContainerRuntime(Settings(runtime="containers"), "m", Path("/home/m")))
    processes = [process(20, "shim"), process(21, "server"), process(31, "server", OLD)]
    assert expected_pids(containers, processes, {INSTANCE}, 5, UNRELATED) == {5, 20, 21}


def test_where_pids_began_anew_the_process_that_started_the_others_is_expected() -> None:
    target = replace(the_target(), kong=KongAtIngress(KongAdmin(), None))
    kong = [process(pid, "kong", INGRESS) for pid in (7, 8, 32_767)]
    tree = ProcessTree({7: Node(32_767, "kong", "S"), 8: Node(7, "sh", "S"), 32_767: Node(1, "sh", "S")})
    assert expected_pids(target, kong, set(), 5, tree) == {5, 32_767}


@pytest.mark.parametrize(("address", "expected"), [(None, {5, 10}), ("http://consul:8500", {5})])
def test_a_consul_of_ours_is_a_stray_where_another_one_is_used(address: str | None, expected: Collection[int]) -> None:
    target = the_target()
    target.settings.consul.address = address
    assert expected_pids(target, [process(10, "consul", "consul")], set(), 5, UNRELATED) == expected


async def test_a_process_that_ends_soon_is_no_stray_and_one_that_lasts_is() -> None:
    ending, lasting = process(40, "server", OLD), process(41, "server", OLD)
    tree = ProcessTree({40: Node(1, "sh", "S"), 41: Node(1, "sleep", "S")})
    snapshot = snapshot_of(
        replace(the_target(), runtime=RunningProcesses(lasting)), (ending, lasting), Namespaces(tree)
    )
    assert await all_are_accounted_for(snapshot, 0) == [stray_process(snapshot.target, lasting, "sleep")]
    assert await all_are_accounted_for(replace(snapshot, processes=(ending,)), 0) == [
        holds("1 processes with this mesh's mark, 0 of them started by the agent")
    ]


async def test_what_an_expected_process_started_is_accounted_for() -> None:
    tree = ProcessTree({20: Node(os.getpid(), "shim", "S"), 21: Node(20, "server", "S")})
    snapshot = snapshot_of(the_target(), (process(20, "shim"), process(21, "server")), Namespaces(tree))
    assert await all_are_accounted_for(snapshot, 0) == [
        holds("2 processes with this mesh's mark, 1 of them started by the agent")
    ]


@pytest.mark.parametrize(("draining", "ok"), [(True, True), (False, False)])
async def test_an_instance_that_drains_is_accounted_for(draining: bool, ok: bool) -> None:
    shim = process(20, "shim", OLD)
    snapshot = snapshot_of(
        replace(the_target(), runtime=RunningProcesses(shim)),
        (shim,),
        Namespaces(ProcessTree({20: Node(1, "shim", "S")})),
        registrations={OLD: registration(OLD, draining=draining)},
    )
    (finding,) = await all_are_accounted_for(snapshot, 0)
    assert finding.ok is ok


def test_a_stray_is_named_with_its_pid_and_role() -> None:
    step = "the agent ends strays unless it is paused (mcpmesh --name m resume); by hand: kill 9"
    assert stray_process(the_target(), process(9, "shim", OLD), "python") == fails(
        f"pid 9 (python) bears the mark of a shim of {OLD}, and nothing accounts for it", step
    )
    assert stray_process(the_target(), process(9, "agent", ""), "python") == fails(
        "pid 9 (python) bears the mark of another agent of m, and nothing accounts for it", step
    )
