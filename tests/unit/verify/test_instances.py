"""Claims about instances: who holds the registered port, and whether the instance is ready."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from tests.support.snapshots import snapshot_of
from tests.unit.verify.sample_mesh import (
    DATABASE_INSTANCE,
    DESIRED,
    INSTANCE,
    REPAIRS,
    http_that,
    process,
    refuse_connection,
    registration,
    the_target,
)

from mcpmesh.settings import Settings
from mcpmesh.verify.claims import instances
from mcpmesh.verify.finding import Finding, fails, holds
from mcpmesh.verify.probes.listening_sockets import Listener, ListeningSockets
from mcpmesh.verify.probes.network_namespaces import Namespaces
from mcpmesh.verify.probes.process_tree import Node, ProcessTree
from mcpmesh.verify.probes.shim_info import Readiness
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.workload.containers.container_runtime import ContainerRuntime

FILES, DATABASE = DESIRED.services["files"], DESIRED.services["database"]
SEE_LOG = f"see its log, /home/m/logs/{INSTANCE}.log"
TREE = ProcessTree({7: Node(1, "shim", "S"), 8: Node(7, "worker", "S"), 9: Node(1, "python", "S")})
LISTENER = Listener("tcp", ip_address("127.0.0.1"), 11101, 1)


def snapshot(*holders: int, http: httpx.AsyncClient | None = None, runs: bool = True) -> Snapshot:
    """An instance in a container, of which only the kernel's table can be seen; pid 7 is its shim."""
    runtime = ContainerRuntime(Settings(runtime="containers"), "m", Path("/home/m"))
    sockets = ListeningSockets((LISTENER,), {1: frozenset(holders)})
    return snapshot_of(
        replace(the_target(), runtime=runtime),
        [process(7, "shim", http=11101)] if runs else [],
        Namespaces(TREE, None, {INSTANCE: sockets}),
        http=http,
        registrations={INSTANCE: registration(INSTANCE)},
    )


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (
            {"instance": INSTANCE},
            holds(f"127.0.0.1:11101 accepts connections and answers as {INSTANCE}, pid 7"),
        ),
        ({"instance": "other"}, fails(f"port 11101 answers as other, not as {INSTANCE}", REPAIRS)),
        ({}, fails("what answers at 127.0.0.1:11101 is no shim: its /info names no instance", SEE_LOG)),
        ([], fails("what answers at http://127.0.0.1:11101/info is no shim: its JSON is no object", SEE_LOG)),
    ],
)
async def test_the_shim_at_the_registered_port_is_that_of_the_instance(answer: object, finding: Finding) -> None:
    async with http_that(lambda _: httpx.Response(200, json=answer)) as http:
        assert await instances.port_is_its_own(snapshot(7, 8, http=http), FILES) == [finding]


@pytest.mark.parametrize(
    ("holders", "runs", "evidence"),
    [
        ((9,), True, "is held by pid 9 (python); its process is pid 7 and listens at 11101"),
        ((7, 9), True, "is held by pid 9 (python); its process is pid 7 and listens at 11101"),
        ((), True, "is held by a process of another user; its process is pid 7 and listens at 11101"),
        ((9,), False, "is held by pid 9 (python); no process of ours runs for it"),
    ],
)
async def test_only_the_instances_own_processes_hold_its_port(
    holders: tuple[int, ...], runs: bool, evidence: str
) -> None:
    assert await instances.port_is_its_own(snapshot(*holders, runs=runs), FILES) == [
        fails(f"port 11101 of {INSTANCE} {evidence}", REPAIRS)
    ]


async def test_an_external_service_is_registered_at_its_declared_port() -> None:
    known = {DATABASE_INSTANCE: registration(DATABASE_INSTANCE, "database", port=5433)}
    assert await instances.port_is_its_own(snapshot_of(the_target(), registrations=known), DATABASE) == [
        fails(f"{DATABASE_INSTANCE} is registered at port 5433, not 5432", REPAIRS)
    ]


@pytest.mark.parametrize(
    ("status", "answer", "finding"),
    [
        (200, {"state": "ready"}, holds(f"the shim of {INSTANCE} says ready")),
        (
            503,
            {"state": "crash-loop", "error": "exit 1", "output": ["one", "two"]},
            fails(
                f"the shim of {INSTANCE} says crash-loop: exit 1; its last output: two",
                "see its output: mcpmesh --name m logs files",
            ),
        ),
        (
            503,
            {"error": "", "output": ["one"]},
            fails(
                f"the shim of {INSTANCE} says HTTP 503: no reason given", "see its output: mcpmesh --name m logs files"
            ),
        ),
    ],
)
async def test_a_shim_has_to_say_that_its_server_is_ready(
    status: int, answer: dict[str, object], finding: Finding
) -> None:
    async with http_that(lambda _: httpx.Response(status, json=answer)) as http:
        assert await instances.is_ready(snapshot(7, http=http), FILES) == [finding]


async def test_a_shim_that_does_not_answer_is_not_ready() -> None:
    async with http_that(refuse_connection) as http:
        assert await instances.is_ready(snapshot(7, http=http), FILES) == [
            fails("no answer from http://127.0.0.1:11101/ready: refused", SEE_LOG)
        ]
    assert await instances.is_ready(snapshot(runs=False), FILES) == [
        fails(f"no process of ours runs for {INSTANCE}", REPAIRS)
    ]


def test_readiness_without_a_reason_says_so() -> None:
    finding = instances.judge_readiness(the_target(), "files", INSTANCE, Readiness(False, "starting", ""))
    assert finding.evidence == f"the shim of {INSTANCE} says starting: no reason given"


def test_an_instance_has_the_addresses_of_its_kind() -> None:
    read = snapshot(7)
    (files,), (database,) = read.instances_of(FILES), read.instances_of(DATABASE)
    assert (files.shim_address, files.external_address) == (("127.0.0.1", 11101), None)
    assert (database.shim_address, database.external_address) == (None, ("127.0.0.1", 5432))
    (stopped,) = snapshot(runs=False).instances_of(FILES)
    assert stopped.shim_address is None


def test_an_instance_has_its_registration_and_the_first_process_of_each_role() -> None:
    shims = [process(7, "shim", http=1), process(8, "shim", http=1), process(9, "sidecar"), process(10, "server")]
    known = {INSTANCE: registration(INSTANCE)}
    (files,) = snapshot_of(the_target(), shims, Namespaces(TREE), registrations=known).instances_of(FILES)
    assert [found.pid for found in files.programs] == [7]
    assert [found.pid for found in files.envoys] == [9]
    assert files.registration == known[INSTANCE]
