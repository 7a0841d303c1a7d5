"""What may listen in the containers beside the sidecars, from the kernel's tables."""

from __future__ import annotations

import ipaddress

import pytest

from mcpmesh.model.observed_state import Unknown
from mcpmesh.verify.claims.compose_listeners import judge_neighbours
from mcpmesh.verify.probes.listening_sockets import Listener, ListeningSockets
from mcpmesh.verify.probes.network_namespaces import Namespaces
from mcpmesh.verify.probes.process_tree import ProcessTree
from mcpmesh.workload.runtime import Neighbour

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
EDGE = "172.20.0.2"
ADDRESSES = {"127.0.0.1": "0100007F", EDGE: "020014AC", "172.21.0.2": "020015AC", "0.0.0.0": "00000000", "::": "0" * 32}


def table(address: str, port: int = 8500, inode: int = 7) -> str:
    """As `cat /proc/net/tcp /proc/net/tcp6` prints it."""
    far = "00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0"
    row = f"   0: {ADDRESSES[address]}:{port:04X} {far} {inode} 1\n"
    return HEAD + ("" if ":" in address else row) + HEAD + (row if ":" in address else "")


def namespaces_with(*neighbours: Neighbour, ours: dict[str, ListeningSockets] | None = None) -> Namespaces:
    return Namespaces(ProcessTree({}), None, ours or {}, neighbours)


@pytest.mark.parametrize(
    ("address", "ok"), [("127.0.0.1", True), (EDGE, True), ("172.21.0.2", False), ("0.0.0.0", False), ("::", False)]
)
def test_a_neighbour_listens_on_loopback_and_at_the_edge_alone(address: str, ok: bool) -> None:
    (finding,) = judge_neighbours(namespaces_with(Neighbour("mesh-consul-1", EDGE, table(address))))
    assert finding.ok is ok, finding.evidence
    assert "mesh-consul-1" in finding.evidence
    assert ok or (":8500, which every server can reach" in finding.evidence and finding.next_step)


def test_a_neighbour_without_an_edge_address_listens_on_loopback_alone() -> None:
    (finding,) = judge_neighbours(namespaces_with(Neighbour("mesh-extra-1", "", table("172.21.0.2"))))
    assert not finding.ok and "mesh-extra-1" in finding.evidence


def test_listeners_of_our_own_envoy_are_left_to_other_claims() -> None:
    listener = Listener("tcp", ipaddress.ip_address("172.21.0.2"), 6000, 7)
    envoy = ListeningSockets((listener,), {7: frozenset({42})})
    neighbour = Neighbour("mesh-kong-1", EDGE, table("172.21.0.2", 6000, inode=7))
    (finding,) = judge_neighbours(namespaces_with(neighbour, ours={"default-ingress": envoy}))
    assert finding.ok, finding.evidence


def test_a_table_that_cannot_be_read_proves_nothing() -> None:
    (finding,) = judge_neighbours(namespaces_with(Neighbour("mesh-consul-1", EDGE, "")))
    assert not finding.ok and "can't be told" in finding.evidence and "docker exec mesh-consul-1" in finding.next_step


def test_a_docker_that_does_not_answer_proves_nothing() -> None:
    (finding,) = judge_neighbours(Namespaces(ProcessTree({}), None, {}, Unknown("cannot reach Docker")))
    assert not finding.ok and "cannot reach Docker" in finding.evidence


def test_without_neighbours_there_is_no_finding() -> None:
    assert judge_neighbours(namespaces_with()) == []
