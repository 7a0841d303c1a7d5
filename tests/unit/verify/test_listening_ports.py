"""Which listeners are as they should be."""

from __future__ import annotations

import ipaddress

import pytest
from tests.unit.verify.sample_mesh import DESIRED, INSTANCE, the_target

from mcpmesh.kit.marked_process import Mark
from mcpmesh.verify.claims.listening_ports import HeldListener, declared_ports, given_ports, is_asked_for, is_expected
from mcpmesh.verify.probes.listening_sockets import Listener

NOWHERE: frozenset[int] = frozenset()


def held(role: str, port: int, *ports: int, address: str = "127.0.0.1", protocol: str = "tcp") -> HeldListener:
    listener = Listener(protocol, ipaddress.ip_address(address), port, 1)
    return HeldListener(listener, 42, "program", role, INSTANCE, "files", frozenset(ports))


def test_the_ingress_may_listen_where_it_was_asked_to() -> None:
    everywhere = held("gateway", 8000, 8000, 11100, address="0.0.0.0")
    assert is_asked_for(the_target(host="0.0.0.0"), everywhere)
    assert not is_asked_for(the_target(), everywhere)
    assert not is_asked_for(the_target(host="localhost"), everywhere)


def test_nothing_else_may_listen_beyond_loopback() -> None:
    world = the_target(host="0.0.0.0")
    assert not is_asked_for(world, held("gateway", 11100, 8000, 11100, address="0.0.0.0"))
    assert not is_asked_for(world, held("server", 8000, address="0.0.0.0"))
    assert not is_asked_for(world, held("sidecar", 8000, 8000, address="0.0.0.0"))


@pytest.mark.parametrize("role", ["shim", "plain"])
def test_a_program_is_given_its_own_port_and_its_sidecar_those_of_the_upstreams(role: str) -> None:
    program = Mark("m", "/home/m", role, INSTANCE, ports={"http": 11101, "sidecar": 11102, "upstream:time": 11105})
    assert given_ports(program, frozenset({11105})) == {11101}
    envoy = Mark("m", "/home/m", "sidecar", INSTANCE, ports={"public": 11102, "admin": 11103})
    assert given_ports(envoy, frozenset({11105})) == {11102, 11103, 11105}


def test_a_server_is_given_no_port_unless_it_is_declared_by_its_address() -> None:
    assert given_ports(Mark("m", "/home/m", "server", INSTANCE), frozenset({11105})) == NOWHERE
    assert not is_expected(held("server", 5432), NOWHERE)
    assert declared_ports(DESIRED) == {5432}
    assert is_expected(held("server", 5432), declared_ports(DESIRED))


def test_the_agent_has_its_api_on_loopback() -> None:
    assert is_expected(held("agent", 11090), NOWHERE)
    assert not is_expected(held("agent", 11090, address="0.0.0.0"), NOWHERE)
    assert not is_expected(held("agent", 11090, protocol="udp"), NOWHERE)


def test_consul_has_the_ports_of_its_mark_by_udp_too() -> None:
    assert is_expected(held("consul", 11093, 11091, 11093, protocol="udp"), NOWHERE)
    assert not is_expected(held("consul", 8600, 11091, 11093, protocol="udp"), NOWHERE)
