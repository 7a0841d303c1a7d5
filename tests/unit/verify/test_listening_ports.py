"""Which listeners are as they should be."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import replace

import pytest
from tests.support.snapshots import snapshot_of
from tests.unit.verify.sample_mesh import DESIRED, INGRESS, INSTANCE, process, the_target

from mcpmesh.kit.marked_process import Mark
from mcpmesh.verify.claims.listening_ports import (
    HeldListener,
    all_at_given_ports,
    declared_ports,
    given_ports,
    held_listeners,
    is_asked_for,
    is_expected,
    none_beyond_loopback,
)
from mcpmesh.verify.finding import Finding, fails, holds
from mcpmesh.verify.probes.listening_sockets import Listener, ListeningSockets
from mcpmesh.verify.probes.network_namespaces import Namespaces
from mcpmesh.verify.probes.process_tree import Node, ProcessTree
from mcpmesh.verify.snapshot import Snapshot

NO_PORTS: frozenset[int] = frozenset()


def held(role: str, port: int, *ports: int, address: str = "127.0.0.1", protocol: str = "tcp") -> HeldListener:
    listener = Listener(protocol, ipaddress.ip_address(address), port, 1)
    return HeldListener(listener, 42, "program", role, INSTANCE, "files", frozenset(ports))


def test_the_ingress_may_listen_where_it_was_asked_to() -> None:
    everywhere = held("gateway", 8000, 8000, 11100, address="0.0.0.0")
    assert is_asked_for(the_target(host="0.0.0.0"), everywhere)
    assert not is_asked_for(the_target(), everywhere)
    assert not is_asked_for(the_target(host="localhost"), everywhere)


def test_nothing_else_may_listen_beyond_loopback() -> None:
    target = the_target(host="0.0.0.0")
    assert not is_asked_for(target, held("gateway", 11100, 8000, 11100, address="0.0.0.0"))
    assert not is_asked_for(target, held("server", 8000, address="0.0.0.0"))
    assert not is_asked_for(target, held("sidecar", 8000, 8000, address="0.0.0.0"))


@pytest.mark.parametrize("role", ["shim", "plain"])
def test_a_program_is_given_its_own_port_and_its_sidecar_those_of_the_upstreams(role: str) -> None:
    program = Mark("m", "/home/m", role, INSTANCE, ports={"http": 11101, "sidecar": 11102, "upstream:time": 11105})
    assert given_ports(program, frozenset({11105})) == {11101}
    envoy = Mark("m", "/home/m", "sidecar", INSTANCE, ports={"public": 11102, "admin": 11103})
    assert given_ports(envoy, frozenset({11105})) == {11102, 11103, 11105}


def test_a_server_is_given_no_port_unless_it_is_declared_by_its_address() -> None:
    assert given_ports(Mark("m", "/home/m", "server", INSTANCE), frozenset({11105})) == NO_PORTS
    assert not is_expected(held("server", 5432), NO_PORTS)
    assert declared_ports(DESIRED) == {5432}
    assert is_expected(held("server", 5432), declared_ports(DESIRED))


def test_the_agent_has_its_api_on_loopback() -> None:
    assert is_expected(held("agent", 11090), NO_PORTS)
    assert not is_expected(held("agent", 11090, address="0.0.0.0"), NO_PORTS)
    assert not is_expected(held("agent", 11090, protocol="udp"), NO_PORTS)


def test_consul_has_the_ports_of_its_mark_by_udp_too() -> None:
    assert is_expected(held("consul", 11093, 11091, 11093, protocol="udp"), NO_PORTS)
    assert not is_expected(held("consul", 8600, 11091, 11093, protocol="udp"), NO_PORTS)


@pytest.mark.parametrize(
    ("role", "address", "port", "asked_for"),
    [
        ("sidecar", "172.21.0.5", 11102, True),
        ("sidecar", "172.21.0.5", 11103, False),
        ("sidecar", "0.0.0.0", 11102, False),
        ("shim", "172.21.0.5", 11102, False),
    ],
)
def test_in_a_container_a_sidecar_listens_where_others_call_it(
    role: str, address: str, port: int, asked_for: bool
) -> None:
    found = replace(held(role, port, 11102, address=address), host="172.21.0.5")
    assert is_asked_for(the_target(), found) is asked_for


def test_the_ingress_may_listen_at_its_registered_address() -> None:
    assert is_asked_for(the_target(), held("gateway", 8000, 8000))
    assert not is_asked_for(the_target(), held("gateway", 8001, 8001))
    going_down = replace(the_target(host="0.0.0.0"), desired=replace(DESIRED, ingress=None))
    assert not is_asked_for(going_down, held("gateway", 8000, 8000, address="0.0.0.0"))


SHIM, SERVER, ENVOY, OTHER = 20, 21, 22, 30
TREE = ProcessTree(
    {
        SHIM: Node(1, "shim", "S"),
        SERVER: Node(SHIM, "node", "S"),
        ENVOY: Node(1, "envoy", "S"),
        OTHER: Node(1, "python", "S"),
    }
)


def snapshot(*listeners: tuple[str, str, int, int], host: str = "127.0.0.1") -> Snapshot:
    """Each listener is a protocol, an address, a port and the pid that holds it."""
    processes = [
        process(SHIM, "shim", **{"http": 11101, "upstream:time": 11105, "check": 11106, "sidecar": 11102}),
        process(SERVER, "server"),
        process(ENVOY, "sidecar", public=11102),
    ]
    found = tuple(
        Listener(protocol, ipaddress.ip_address(address), port, inode)
        for inode, (protocol, address, port, _) in enumerate(listeners)
    )
    holders = {inode: frozenset({pid}) for inode, (_, _, _, pid) in enumerate(listeners)}
    return snapshot_of(the_target(host=host), processes, Namespaces(TREE, ListeningSockets(found, holders)))


def test_listeners_of_the_meshs_processes_and_of_the_agent_are_held() -> None:
    found = held_listeners(
        snapshot(
            ("tcp", "127.0.0.1", 11101, SHIM),
            ("tcp", "127.0.0.1", 3000, SERVER),
            ("tcp", "127.0.0.1", 11102, ENVOY),
            ("tcp", "127.0.0.1", 22, OTHER),
            ("tcp", "127.0.0.1", 11090, os.getpid()),
            ("udp", "127.0.0.1", 5353, SERVER),
            ("udp", "127.0.0.1", 5354, SHIM),
        )
    )
    assert [(held.pid, held.name, held.role, held.listener.port, held.ports) for held in found] == [
        (SHIM, "shim", "shim", 11101, {11101}),
        (SERVER, "node", "server", 3000, frozenset()),
        (ENVOY, "envoy", "sidecar", 11102, {11102, 11105, 11106}),
        (os.getpid(), "gone", "agent", 11090, frozenset()),
        (SHIM, "shim", "shim", 5354, {11101}),
    ]


def test_what_a_marked_process_started_is_held_under_its_mark() -> None:
    bare = snapshot(("tcp", "127.0.0.1", 3000, SERVER))
    (found,) = held_listeners(replace(bare, processes=bare.processes[:1]))
    assert (found.pid, found.role, found.instance, found.service) == (SERVER, "shim", INSTANCE, "files")


@pytest.mark.parametrize(
    ("listener", "findings"),
    [
        (("tcp", "127.0.0.1", 11101, SHIM), [holds("1 listeners of ours, all on loopback")]),
        (("tcp", "0.0.0.0", 22, OTHER), [holds("0 listeners of ours, all on loopback")]),
        (
            ("tcp", "0.0.0.0", 3000, SERVER),
            [
                fails(
                    f"pid 21 (node), server of {INSTANCE}, listens at tcp 0.0.0.0:3000, which other machines can reach",
                    "make it listen at 127.0.0.1 (look for a host or bind option of files)",
                )
            ],
        ),
    ],
)
async def test_a_listener_beyond_loopback_fails(listener: tuple[str, str, int, int], findings: list[Finding]) -> None:
    assert await none_beyond_loopback(snapshot(listener)) == findings


@pytest.mark.parametrize(("host", "ok"), [("0.0.0.0", True), ("127.0.0.1", False)])
async def test_the_ingress_beyond_loopback_has_to_be_asked_for(host: str, ok: bool) -> None:
    read = snapshot(("tcp", "0.0.0.0", 8000, ENVOY), host=host)
    gateway = process(ENVOY, "gateway", INGRESS, public=8000)
    finding = (
        holds("0 listeners of ours, all on loopback, but tcp 0.0.0.0:8000, which was asked for")
        if ok
        else fails(
            f"pid 22 (envoy), gateway of {INGRESS}, listens at tcp 0.0.0.0:8000, which other machines can reach",
            "set MCPMESH_INGRESS__HOST to where the ingress should listen, and start the mesh again",
        )
    )
    assert await none_beyond_loopback(replace(read, processes=(gateway,))) == [finding]


async def test_a_listener_at_a_port_of_its_own_fails() -> None:
    given = ("tcp", "127.0.0.1", 11101, SHIM), ("tcp", "127.0.0.1", 5432, SERVER), ("tcp", "127.0.0.1", 11105, ENVOY)
    assert await all_at_given_ports(snapshot(*given)) == [
        holds("3 listeners of ours, each at a port that the mesh gave it")
    ]
    assert await all_at_given_ports(snapshot(*given, ("tcp", "127.0.0.1", 3000, SERVER))) == [
        fails(
            f"pid 21 (node), server of {INSTANCE}, listens at tcp 127.0.0.1:3000, a port that the mesh did not give it",
            "a call to it there bypasses the mesh: turn that listener off (options of files), or declare "
            "it as a service of its own with its address; or end it: kill 21",
        )
    ]
