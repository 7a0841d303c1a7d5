"""Claims about Kong, by its processes, its listeners and the answers of its Admin API."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.snapshots import snapshot_of, target_of

from mcpmesh.ingress.kong.kong_admin import KongAdmin, OwnedService
from mcpmesh.ingress.kong.user_documents import UserDocuments
from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.model.observed_state import Registration
from mcpmesh.model.service import Catalog, ServiceSpec, Stdio
from mcpmesh.reconcile.desired_from_catalog import KongOptions, build_desired_state
from mcpmesh.settings import IngressSettings, Settings
from mcpmesh.verify.claim_list import claims_about_ingress
from mcpmesh.verify.claims import ingress_port, kong_at_ingress
from mcpmesh.verify.finding import CannotTry
from mcpmesh.verify.probes.listening_sockets import Listener, ListeningSockets
from mcpmesh.verify.probes.network_namespaces import Namespaces
from mcpmesh.verify.probes.process_tree import Node, ProcessTree
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.verify.target import KongAtIngress
from mcpmesh.workload.containers.container_runtime import ContainerRuntime

SHELL, MASTER, WORKER, SIDECAR, STRANGER = 10, 11, 12, 20, 30
PROXY, ADMIN, UPSTREAM = 8000, 8001, 7000
EDGE_ADDRESS, INSIDE_ADDRESS = "172.20.0.5", "172.21.0.5"

FILES = ServiceSpec("files", Stdio("server"), route="/mcp/files")
OPTIONS = KongOptions(sidecar_port=6000, ports={"files": UPSTREAM}, plugins=[], user_documents=UserDocuments())
DESIRED = build_desired_state(Catalog({"files": FILES}), "m", b"key", "ingress", "127.0.0.1", PROXY, OPTIONS)
INGRESS = DESIRED.ingress
assert INGRESS is not None and INGRESS.kong is not None
DESIRED_KONG = INGRESS.kong


def kong_snapshot(answers: dict[str, Any] | None = None, held: dict[int, tuple[str, int]] | None = None) -> Snapshot:
    """Our Kong with its processes; `held` has the address and the holder of each port."""
    listeners = {PROXY: ("127.0.0.1", WORKER), ADMIN: ("127.0.0.1", WORKER), UPSTREAM: ("127.0.0.1", SIDECAR)}
    listeners |= held or {}

    def answer(request: httpx.Request) -> httpx.Response:
        found = (answers or {}).get(request.url.path)
        return httpx.Response(404 if found is None else 200, content=json.dumps(found))

    target = replace(target_of(DESIRED), kong=KongAtIngress(KongAdmin(httpx.MockTransport(answer)), None))
    ports = {"public": PROXY, "admin": ADMIN}
    processes = (
        Process(SHELL, Mark("m", "/home/m", "kong", DESIRED.ingress_id, "ingress", ports=ports)),
        Process(SIDECAR, Mark("m", "/home/m", "sidecar", DESIRED.ingress_id, "ingress", ports={"public": 6000})),
    )
    nodes = {SHELL: Node(1, "sh", "S"), MASTER: Node(SHELL, "nginx", "S"), WORKER: Node(MASTER, "nginx", "S")}
    nodes |= {SIDECAR: Node(1, "envoy", "S"), STRANGER: Node(1, "python", "S")}
    sockets = ListeningSockets(
        tuple(Listener("tcp", ipaddress.ip_address(host), port, port) for port, (host, _) in listeners.items()),
        {port: frozenset({pid}) for port, (_, pid) in listeners.items()},
    )
    return snapshot_of(target, processes, Namespaces(ProcessTree(nodes), sockets))


def kong_with(*names: str, hash_: str | None = None) -> dict[str, Any]:
    """The answers of the Admin API of a Kong with routes to these services."""
    services = [{"name": name, "port": UPSTREAM, "tags": ["mcpmesh-owner:m"]} for name in names]
    return {
        "/status": {"configuration_hash": hash_ or DESIRED_KONG.document(names).hash},
        "/services": {"data": services, "next": None},
    }


# --- its port


def test_a_port_that_kongs_worker_holds_is_kongs() -> None:
    assert INGRESS is not None
    assert kong_at_ingress.judge_port_holder(kong_snapshot(), INGRESS, "127.0.0.1").ok


@pytest.mark.parametrize(("pid", "evidence"), [(STRANGER, "held by pid 30 (python)"), (-1, "held by no process")])
def test_a_port_that_kong_does_not_hold_fails_with_its_holder(pid: int, evidence: str) -> None:
    assert INGRESS is not None
    snapshot = kong_snapshot(held={PROXY: ("127.0.0.1", pid)})
    if pid < 0:
        snapshot = replace(snapshot, namespaces=replace(snapshot.namespaces, host=ListeningSockets((), {})))
    finding = kong_at_ingress.judge_port_holder(snapshot, INGRESS, "127.0.0.1")
    assert not finding.ok and evidence in finding.evidence and finding.next_step


# --- its document


async def test_our_document_holds_with_all_routes_and_before_the_first() -> None:
    for names in ((), ("files",)):
        (finding,) = await kong_at_ingress.uses_our_document(kong_snapshot(kong_with(*names)))
        assert finding.ok, finding.evidence


async def test_another_document_fails_with_the_difference_of_its_services() -> None:
    (finding,) = await kong_at_ingress.uses_our_document(kong_snapshot(kong_with("other", hash_="f" * 32)))
    assert not finding.ok
    assert "another document, ffffffffffff: without files; with unwanted other" in finding.evidence
    assert "mcpmesh --name m ingress render" in finding.next_step


async def test_another_document_with_the_same_services_fails() -> None:
    (finding,) = await kong_at_ingress.uses_our_document(kong_snapshot(kong_with("files", hash_="f" * 32)))
    assert not finding.ok and "another document" in finding.evidence


async def test_a_kong_that_does_not_answer_proves_nothing() -> None:
    (finding,) = await kong_at_ingress.uses_our_document(kong_snapshot({}))
    assert not finding.ok and "cannot read /status of Kong" in finding.evidence and finding.next_step


async def test_without_a_kong_there_is_nothing_to_try() -> None:
    snapshot = replace(kong_snapshot(), processes=())
    with pytest.raises(CannotTry, match="no Kong of ours runs"):
        await kong_at_ingress.uses_our_document(snapshot)


# --- its Admin API, its sidecar, its version


async def test_the_admin_api_listens_on_loopback_alone() -> None:
    (inside,) = await kong_at_ingress.admin_api_is_private(kong_snapshot())
    (outside,) = await kong_at_ingress.admin_api_is_private(kong_snapshot(held={ADMIN: ("0.0.0.0", WORKER)}))
    assert inside.ok
    assert not outside.ok and "0.0.0.0:8001" in outside.evidence and outside.next_step


async def test_each_port_that_kong_calls_is_held_by_its_sidecar() -> None:
    (held,) = await kong_at_ingress.sidecar_listens(kong_snapshot())
    (taken,) = await kong_at_ingress.sidecar_listens(kong_snapshot(held={UPSTREAM: ("127.0.0.1", STRANGER)}))
    assert held.ok
    assert not taken.ok and "pid 30 (python)" in taken.evidence


async def test_in_a_container_the_sidecars_listeners_are_those_of_its_namespace() -> None:
    held = kong_snapshot()
    inside = replace(held, namespaces=Namespaces(held.process_tree, None, {DESIRED.ingress_id: held.host_sockets}))
    missing = replace(
        held, namespaces=Namespaces(held.process_tree, None, {DESIRED.ingress_id: ListeningSockets((), {})})
    )
    (found,) = await kong_at_ingress.sidecar_listens(inside)
    (no_holder,) = await kong_at_ingress.sidecar_listens(missing)
    assert found.ok
    assert not no_holder.ok and "held by no process" in no_holder.evidence


def in_compose(*listeners: tuple[str, int, int]) -> Snapshot:
    """Kong in a container: `listeners` of its namespace are address, port and holder, 0 for what is not our Envoy's."""
    snapshot = kong_snapshot()
    settings = Settings(runtime="containers", ingress=IngressSettings(kind="kong"))
    listeners_inside = [
        Listener("tcp", ipaddress.ip_address(host), port, inode) for inode, (host, port, _) in enumerate(listeners)
    ]
    holders = {inode: frozenset({pid}) for inode, (_, _, pid) in enumerate(listeners) if pid}
    sockets = ListeningSockets(tuple(listeners_inside), holders)
    return replace(
        snapshot,
        target=replace(
            snapshot.target,
            runtime=ContainerRuntime(settings, "m", Path("/home/m")),
            kong=KongAtIngress(KongAdmin(), f"http://kong-edge:{ADMIN}"),
            desired=build_desired_state(
                Catalog({"files": FILES}), "m", b"key", "ingress", EDGE_ADDRESS, PROXY, OPTIONS
            ),
        ),
        namespaces=Namespaces(snapshot.process_tree, None, {DESIRED.ingress_id: sockets}),
    )


@pytest.mark.parametrize(
    ("host", "pid", "evidence"),
    [
        (EDGE_ADDRESS, 0, ""),
        (EDGE_ADDRESS, SIDECAR, "held by its Envoy"),
        ("0.0.0.0", 0, "which servers can reach"),
        (INSIDE_ADDRESS, 0, "which servers can reach"),
    ],
)
def test_in_a_container_kong_holds_its_port_at_the_edge_alone(host: str, pid: int, evidence: str) -> None:
    assert INGRESS is not None
    finding = kong_at_ingress.judge_port_holder(in_compose((host, PROXY, pid)), INGRESS, EDGE_ADDRESS)
    assert finding.ok is (not evidence) and evidence in finding.evidence
    assert finding.ok or finding.next_step


@pytest.mark.parametrize(("host", "ok"), [(EDGE_ADDRESS, True), ("127.0.0.1", True), ("0.0.0.0", False)])
async def test_in_a_container_servers_do_not_reach_the_admin_api(host: str, ok: bool) -> None:
    (finding,) = await kong_at_ingress.admin_api_is_private(in_compose((host, ADMIN, 0)))
    assert finding.ok is ok, finding.evidence


async def test_in_a_container_an_admin_api_that_is_not_seen_proves_nothing() -> None:
    (finding,) = await kong_at_ingress.admin_api_is_private(in_compose())
    assert not finding.ok and "nothing listens at port 8001" in finding.evidence


async def test_of_a_kong_that_the_agent_does_not_run_only_visible_claims_are_made() -> None:
    ours = kong_snapshot().target
    others = replace(ours, kong=KongAtIngress(KongAdmin(), "http://kong-edge:8001"))
    private, held = "Kong's Admin API is for this machine alone", "the ingress is held by Kong"
    assert {private, held} <= {claim.title for claim in claims_about_ingress(ours)}
    assert not {private, held} & {claim.title for claim in claims_about_ingress(others)}
    assert "the ingress is registered in Consul as wanted" in {claim.title for claim in claims_about_ingress(others)}


@pytest.mark.parametrize(("port", "ok"), [(None, False), (PROXY, True), (1, False)])
async def test_the_ingress_is_registered_at_its_wanted_port(port: int | None, ok: bool) -> None:
    id_ = DESIRED.ingress_id
    known = {id_: Registration(id_, "ingress", port, 6000, "d", draining=False, passing=True)} if port else {}
    (finding,) = await ingress_port.is_registered(replace(kong_snapshot(), registrations=known))
    assert finding.ok is ok, finding.evidence


@pytest.mark.parametrize(("version", "good"), [("3.9.1", True), ("3.4.2", True), ("2.8.5", False)])
async def test_a_kong_of_another_major_version_fails(version: str, good: bool) -> None:
    (finding,) = await kong_at_ingress.version_is_supported(kong_snapshot({"/": {"version": version}}))
    assert finding.ok is good and version in finding.evidence


async def test_a_mesh_that_is_going_down_wants_no_kong() -> None:
    read = kong_snapshot()
    going_down = replace(read, target=replace(read.target, desired=replace(DESIRED, ingress=None)))
    with pytest.raises(CannotTry, match="no ingress is wanted: this mesh is going down"):
        await kong_at_ingress.sidecar_listens(going_down)


@pytest.mark.parametrize(
    ("present", "text"),
    [
        ({"files": 7000, "git": 7001}, ""),
        ({"git": 7001}, ": without files"),
        ({}, ": without files, git"),
        ({"files": 7000, "git": 7001, "x": 1, "other": 2}, ": with unwanted other, x"),
        ({"files": 7001, "git": 7001}, ": with another port of files"),
        ({"files": 1, "x": 1}, ": without git; with unwanted x; with another port of files"),
    ],
)
def test_kongs_services_are_compared_with_the_wanted_ports(present: dict[str, int], text: str) -> None:
    services = {name: OwnedService(port, "") for name, port in present.items()}
    assert kong_at_ingress.differences({"files": 7000, "git": 7001}, services) == text
