"""Claims about Kong, judged from what was seen: processes, listeners, and what its Admin API tells."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.snapshots import snapshot_of

from mcpmesh.consul.client import Consul
from mcpmesh.envoy.envoy_admin import EnvoyAdmin
from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.ingress.kong.user_documents import UserDocuments
from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.model.observed_state import Registration
from mcpmesh.model.service import Catalog, ServiceSpec, Stdio
from mcpmesh.reconcile.desired_from_catalog import KongOptions, build_desired_state
from mcpmesh.settings import IngressSettings, Settings
from mcpmesh.verify.claim_list import claims_about_ingress
from mcpmesh.verify.claims import ingress_port, kong_at_ingress
from mcpmesh.verify.finding import CannotTry
from mcpmesh.verify.probes.listening_sockets import Listener, ListeningSockets
from mcpmesh.verify.probes.namespaces import Namespaces
from mcpmesh.verify.probes.process_tree import Node, ProcessTree
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.verify.target import KongAtIngress, Target
from mcpmesh.workload.containers.container_runtime import ContainerRuntime
from mcpmesh.workload.process_runtime import ProcessRuntime

SHELL, MASTER, WORKER, SIDECAR, STRANGER = 10, 11, 12, 20, 30
PROXY, ADMIN, UPSTREAM = 8000, 8001, 7000
EDGE_ADDRESS, INSIDE_ADDRESS = "172.20.0.5", "172.21.0.5"

FILES = ServiceSpec("files", Stdio("server"), route="/mcp/files")
WISH = KongOptions(sidecar_port=6000, ports={"files": UPSTREAM}, plugins=[], user_documents=UserDocuments())
DESIRED = build_desired_state(Catalog({"files": FILES}), "m", b"key", "ingress", "127.0.0.1", PROXY, WISH)
INGRESS = DESIRED.ingress
assert INGRESS is not None and INGRESS.kong is not None
EDGE = INGRESS.kong


def facts(answers: dict[str, Any] | None = None, held: dict[int, tuple[str, int]] | None = None) -> Snapshot:
    """Our Kong with its processes; `held` says at which address and by whom each port is held."""
    listeners = {PROXY: ("127.0.0.1", WORKER), ADMIN: ("127.0.0.1", WORKER), UPSTREAM: ("127.0.0.1", SIDECAR)}
    listeners |= held or {}

    def answer(request: httpx.Request) -> httpx.Response:
        found = (answers or {}).get(request.url.path)
        return httpx.Response(404 if found is None else 200, content=json.dumps(found))

    world = Target(
        settings=Settings(),
        mesh="m",
        home=Path("/home/m"),
        consul=Consul("http://127.0.0.1:8500"),
        envoy_admin=EnvoyAdmin(),
        desired=DESIRED,
        ingress_url=f"http://127.0.0.1:{PROXY}",
        runtime=ProcessRuntime("m", Path("/home/m"), PortAllocator(11100)),
        kong=KongAtIngress(KongAdmin(httpx.MockTransport(answer)), None),
    )
    ports = {"public": PROXY, "admin": ADMIN}
    processes = (
        Process(SHELL, Mark("m", "/home/m", "kong", DESIRED.ingress_id, "ingress", ports=ports)),
        Process(SIDECAR, Mark("m", "/home/m", "sidecar", DESIRED.ingress_id, "ingress", ports={"public": 6000})),
    )
    kin = {SHELL: Node(1, "sh", "S"), MASTER: Node(SHELL, "nginx", "S"), WORKER: Node(MASTER, "nginx", "S")}
    kin |= {SIDECAR: Node(1, "envoy", "S"), STRANGER: Node(1, "python", "S")}
    sockets = ListeningSockets(
        tuple(Listener("tcp", ipaddress.ip_address(host), port, port) for port, (host, _) in listeners.items()),
        {port: frozenset({pid}) for port, (_, pid) in listeners.items()},
    )
    return snapshot_of(world, processes, Namespaces(ProcessTree(kin), sockets))


def going_by(*names: str, hash_: str | None = None) -> dict[str, Any]:
    """What the Admin API tells of a Kong that leads to these services."""
    services = [{"name": name, "port": UPSTREAM, "tags": ["mcpmesh-owner:m"]} for name in names]
    return {
        "/status": {"configuration_hash": hash_ or EDGE.document(names).hash},
        "/services": {"data": services, "next": None},
    }


# --- its port


def test_a_port_that_kongs_worker_holds_is_kongs() -> None:
    assert INGRESS is not None
    assert kong_at_ingress.judge_port_holder(facts(), INGRESS, "127.0.0.1").ok


@pytest.mark.parametrize(("pid", "said"), [(STRANGER, "held by pid 30 (python)"), (-1, "held by no process")])
def test_a_port_that_somebody_else_or_nobody_holds_is_told(pid: int, said: str) -> None:
    assert INGRESS is not None
    seen = facts(held={PROXY: ("127.0.0.1", pid)})
    if pid < 0:
        seen = replace(seen, namespaces=replace(seen.namespaces, host=ListeningSockets((), {})))
    finding = kong_at_ingress.judge_port_holder(seen, INGRESS, "127.0.0.1")
    assert not finding.ok and said in finding.evidence and finding.next_step


# --- its document


async def test_our_document_is_good_with_all_routes_and_before_the_first() -> None:
    for names in ((), ("files",)):
        (finding,) = await kong_at_ingress.uses_our_document(facts(going_by(*names)))
        assert finding.ok, finding.evidence


async def test_another_document_is_told_with_what_it_lacks() -> None:
    (finding,) = await kong_at_ingress.uses_our_document(facts(going_by("other", hash_="f" * 32)))
    assert not finding.ok
    assert "another document, ffffffffffff: without files; with other, which nobody wants" in finding.evidence
    assert "mcpmesh --name m ingress render" in finding.next_step


async def test_one_that_differs_in_nothing_that_services_tell_is_told_too() -> None:
    (finding,) = await kong_at_ingress.uses_our_document(facts(going_by("files", hash_="f" * 32)))
    assert not finding.ok and "another document" in finding.evidence


async def test_a_kong_that_does_not_answer_proves_nothing() -> None:
    (finding,) = await kong_at_ingress.uses_our_document(facts({}))
    assert not finding.ok and "cannot read /status of Kong" in finding.evidence and finding.next_step


async def test_without_a_kong_there_is_nothing_to_try() -> None:
    seen = replace(facts(), processes=())
    with pytest.raises(CannotTry, match="no Kong of ours runs"):
        await kong_at_ingress.uses_our_document(seen)


# --- its Admin API, its sidecar, its version


async def test_an_admin_api_on_loopback_is_good_and_one_beyond_is_not() -> None:
    (inside,) = await kong_at_ingress.admin_api_is_private(facts())
    (outside,) = await kong_at_ingress.admin_api_is_private(facts(held={ADMIN: ("0.0.0.0", WORKER)}))
    assert inside.ok
    assert not outside.ok and "0.0.0.0:8001" in outside.evidence and outside.next_step


async def test_each_port_where_kong_looks_has_to_be_its_sidecars() -> None:
    (held,) = await kong_at_ingress.sidecar_listens(facts())
    (taken,) = await kong_at_ingress.sidecar_listens(facts(held={UPSTREAM: ("127.0.0.1", STRANGER)}))
    assert held.ok
    assert not taken.ok and "pid 30 (python)" in taken.evidence


async def test_in_a_namespace_of_its_own_the_sidecars_listeners_are_looked_at_there() -> None:
    held = facts()
    inside = replace(held, namespaces=Namespaces(held.process_tree, None, {DESIRED.ingress_id: held.host_sockets}))
    missing = replace(
        held, namespaces=Namespaces(held.process_tree, None, {DESIRED.ingress_id: ListeningSockets((), {})})
    )
    (found,) = await kong_at_ingress.sidecar_listens(inside)
    (nobody,) = await kong_at_ingress.sidecar_listens(missing)
    assert found.ok
    assert not nobody.ok and "held by no process" in nobody.evidence


def in_compose(*listeners: tuple[str, int, int]) -> Snapshot:
    """Kong in a container: `listeners` of its namespace are address, port and holder, 0 for what is not our Envoy's."""
    seen = facts()
    settings = Settings(runtime="containers", ingress=IngressSettings(kind="kong"))
    there = [
        Listener("tcp", ipaddress.ip_address(host), port, inode) for inode, (host, port, _) in enumerate(listeners)
    ]
    holders = {inode: frozenset({pid}) for inode, (_, _, pid) in enumerate(listeners) if pid}
    return replace(
        seen,
        target=replace(
            seen.target,
            runtime=ContainerRuntime(settings, "m", Path("/home/m")),
            kong=KongAtIngress(KongAdmin(), f"http://kong-edge:{ADMIN}"),
            desired=build_desired_state(Catalog({"files": FILES}), "m", b"key", "ingress", EDGE_ADDRESS, PROXY, WISH),
        ),
        namespaces=Namespaces(seen.process_tree, None, {DESIRED.ingress_id: ListeningSockets(tuple(there), holders)}),
    )


@pytest.mark.parametrize(
    ("host", "pid", "said"),
    [
        (EDGE_ADDRESS, 0, ""),
        (EDGE_ADDRESS, SIDECAR, "held by its Envoy"),
        ("0.0.0.0", 0, "which servers can reach"),
        (INSIDE_ADDRESS, 0, "which servers can reach"),
    ],
)
def test_in_a_container_kong_holds_its_port_at_the_edge_alone(host: str, pid: int, said: str) -> None:
    assert INGRESS is not None
    finding = kong_at_ingress.judge_port_holder(in_compose((host, PROXY, pid)), INGRESS, EDGE_ADDRESS)
    assert finding.ok is (not said) and said in finding.evidence
    assert finding.ok or finding.next_step


@pytest.mark.parametrize(("host", "ok"), [(EDGE_ADDRESS, True), ("127.0.0.1", True), ("0.0.0.0", False)])
async def test_in_a_container_servers_do_not_reach_the_admin_api(host: str, ok: bool) -> None:
    (finding,) = await kong_at_ingress.admin_api_is_private(in_compose((host, ADMIN, 0)))
    assert finding.ok is ok, finding.evidence


async def test_in_a_container_an_admin_api_that_is_not_seen_proves_nothing() -> None:
    (finding,) = await kong_at_ingress.admin_api_is_private(in_compose())
    assert not finding.ok and "nothing listens at port 8001" in finding.evidence


async def test_of_somebody_elses_kong_only_what_can_be_tried_is_claimed() -> None:
    ours = facts().target
    others = replace(ours, kong=KongAtIngress(KongAdmin(), "http://kong-edge:8001"))
    private, held = "Kong's Admin API is for this machine alone", "the ingress is held by Kong"
    assert {private, held} <= {trial.title for trial in claims_about_ingress(ours)}
    assert not {private, held} & {trial.title for trial in claims_about_ingress(others)}
    assert "the ingress is registered in Consul as wanted" in {trial.title for trial in claims_about_ingress(others)}


@pytest.mark.parametrize(("port", "ok"), [(None, False), (PROXY, True), (1, False)])
async def test_the_registration_of_the_ingress_is_looked_at(port: int | None, ok: bool) -> None:
    id_ = DESIRED.ingress_id
    known = {id_: Registration(id_, "ingress", port, 6000, "d", draining=False, passing=True)} if port else {}
    (finding,) = await ingress_port.is_registered(replace(facts(), registrations=known))
    assert finding.ok is ok, finding.evidence


@pytest.mark.parametrize(("version", "good"), [("3.9.1", True), ("3.4.2", True), ("2.8.5", False)])
async def test_a_kong_of_another_line_is_told(version: str, good: bool) -> None:
    (finding,) = await kong_at_ingress.version_is_supported(facts({"/": {"version": version}}))
    assert finding.ok is good and version in finding.evidence
