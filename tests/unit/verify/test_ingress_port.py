"""Claims about the ingress's registration and the process that holds its port."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from tests.support.snapshots import snapshot_of
from tests.unit.verify.sample_mesh import DESIRED, INGRESS, REPAIRS, process, registration, the_target

from mcpmesh.model.observed_state import Registration
from mcpmesh.verify.claims import ingress_port
from mcpmesh.verify.finding import Finding, fails, holds
from mcpmesh.verify.probes.listening_sockets import Listener, ListeningSockets
from mcpmesh.verify.probes.network_namespaces import Namespaces
from mcpmesh.verify.probes.process_tree import Node, ProcessTree
from mcpmesh.verify.snapshot import Snapshot

GOOD = registration(INGRESS, "ingress", port=8000)
LOG = f"/home/m/logs/{INGRESS}.gateway.log"


def snapshot(found: Registration | None, holder: int = 11) -> Snapshot:
    """The gateway is pid 11; `holder` holds its port."""
    tree = ProcessTree({11: Node(1, "envoy", "S"), 12: Node(1, "python", "S")})
    sockets = ListeningSockets((Listener("tcp", ip_address("127.0.0.1"), 8000, 1),), {1: frozenset({holder})})
    known = {INGRESS: found} if found else {}
    gateway = process(11, "gateway", INGRESS, public=8000)
    return snapshot_of(the_target(), [gateway], Namespaces(tree, sockets), registrations=known)


@pytest.mark.parametrize(
    ("found", "finding"),
    [
        (None, fails(f"{INGRESS} is not registered in Consul", REPAIRS)),
        (replace(GOOD, port=8001), fails(f"{INGRESS} is registered at port 8001, not 8000", REPAIRS)),
        (
            replace(GOOD, passing=False, failing=("a fails", "b fails")),
            fails(f"{INGRESS}: a fails; b fails", f"see its log, {LOG}"),
        ),
    ],
)
async def test_an_ingress_that_is_registered_otherwise_fails(found: Registration | None, finding: Finding) -> None:
    assert await ingress_port.is_registered(snapshot(found)) == [finding]
    assert await ingress_port.is_held(snapshot(found)) == [finding]


async def test_our_envoy_holds_the_port_of_the_ingress() -> None:
    assert await ingress_port.is_registered(snapshot(GOOD)) == [
        holds(f"{INGRESS} is registered at port 8000, and Consul's checks of it pass")
    ]
    assert await ingress_port.is_held(snapshot(GOOD)) == [
        holds(f"127.0.0.1:8000 is held by the Envoy of {INGRESS}, pid 11")
    ]
    (taken,) = await ingress_port.is_held(snapshot(GOOD, holder=12))
    assert taken.evidence == f"port 8000 of {INGRESS} is held by pid 12 (python); its Envoy is pid 11"


async def test_a_mesh_that_is_going_down_has_no_ingress() -> None:
    read = snapshot(GOOD)
    going_down = replace(read, target=replace(read.target, desired=replace(DESIRED, ingress=None)))
    finding = fails("no ingress is wanted: this mesh is going down", "mcpmesh --name m status")
    assert await ingress_port.is_held(going_down) == [finding]


@pytest.mark.parametrize(("host", "address"), [("0.0.0.0", "0.0.0.0"), ("::1", "::1"), ("localhost", "127.0.0.1")])
def test_a_name_of_the_ingress_stands_for_loopback(host: str, address: str) -> None:
    assert ingress_port.bound_address(host) == address
