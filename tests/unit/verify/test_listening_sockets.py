"""Who listens where, read from the kernel's tables."""

from __future__ import annotations

import ipaddress
import os
import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from tests.support.ports import OWN_PORTS

from mcpmesh.verify.probes import listening_sockets
from mcpmesh.verify.probes.listening_sockets import Listener, ListeningSockets, parse_table

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0000000000000000 100 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17 1 0000000000000000 100 0
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0000000000000000 20 4
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 51 1 0 100 0
   1: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 52 1 0 100 0
   2: 00000000000000000000000000000000:1F92 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 53 1 0 100 0
"""
UDP = """   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref
  10: 0100007F:4C2F 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 61 2 0000000000000000 0
  11: 0100007F:4C30 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 62 2 0000000000000000 0
"""

LOOPBACK = IPv4Address("127.0.0.1")


def listener(address: str, port: int = 80, inode: int = 1) -> Listener:
    return Listener("tcp", ipaddress.ip_address(address), port, inode)


def test_only_sockets_that_listen_are_listeners() -> None:
    assert list(parse_table(TCP, "tcp")) == [
        Listener("tcp", LOOPBACK, 8080, 4242),
        Listener("tcp", IPv4Address("0.0.0.0"), 22, 17),
    ]


def test_addresses_of_version_6_are_read() -> None:
    assert [(item.address, item.port) for item in parse_table(TCP6, "tcp")] == [
        (IPv6Address("::1"), 8080),
        (IPv6Address("::ffff:127.0.0.1"), 8081),
        (IPv6Address("::"), 8082),
    ]


def test_udp_sockets_without_a_peer_take_from_anybody() -> None:
    assert list(parse_table(UDP, "udp")) == [Listener("udp", LOOPBACK, 19503, 61)]


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:0.0.0.0", False),
        ("192.0.2.1", False),
    ],
)
def test_loopback_is_what_no_other_machine_reaches(address: str, loopback: bool) -> None:
    assert listener(address).on_loopback is loopback


def test_a_connection_reaches_who_is_bound_to_the_address_before_who_is_bound_to_all() -> None:
    found = ListeningSockets(
        (listener("0.0.0.0", inode=1), listener("127.0.0.1", inode=2), listener("192.0.2.1", inode=3)),
        {1: frozenset({10}), 2: frozenset({20}), 3: frozenset({30})},
    )
    assert found.holders_of("127.0.0.1", 80) == {20}
    assert found.holders_of("127.0.0.2", 80) == {10}
    assert found.holders_of("127.0.0.1", 81) == frozenset()


def test_all_who_share_a_port_hold_it() -> None:
    shared = ListeningSockets((listener("127.0.0.1", inode=1), listener("127.0.0.1", inode=2)), {1: {5}, 2: {6}})
    assert shared.holders_of("127.0.0.1", 80) == {5, 6}


def test_a_socket_that_takes_both_versions_holds_a_port_of_version_4() -> None:
    found = ListeningSockets((listener("::", inode=1),), {1: frozenset({10})})
    assert found.holders_of("127.0.0.1", 80) == {10}


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_real_listener_is_found_with_its_holder(host: str) -> None:
    with socket.create_server((host, 0)) as server:
        port = server.getsockname()[1]
        seen = listening_sockets.read_sockets()
    assert seen.holders_of("127.0.0.1", port) == {os.getpid()}
    assert str(next(item for item in seen.of_process(os.getpid()) if item.port == port)) == f"tcp {host}:{port}"


def test_a_real_listener_of_version_6_is_found() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        found = next(item for item in listening_sockets.read_sockets().of_process(os.getpid()) if item.port == port)
    assert str(found) == f"tcp [::1]:{port}"
    assert found.on_loopback


def test_a_listener_that_is_closed_is_gone() -> None:
    port = OWN_PORTS.take()
    with socket.create_server(("127.0.0.1", port)):
        assert listening_sockets.read_sockets().holders_of("127.0.0.1", port) == {os.getpid()}
    assert listening_sockets.read_sockets().holders_of("127.0.0.1", port) == frozenset()
