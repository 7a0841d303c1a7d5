"""The listeners in network namespaces, as their Envoys read them."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest

from mcpmesh.verify.probes.listening_sockets import Listener, ListeningSockets
from mcpmesh.verify.probes.network_namespaces import NO_SOCKETS, Namespaces, parse_namespace
from mcpmesh.verify.probes.process_tree import ProcessTree

ENVOY, SHIM = 7, 8
TREE = ProcessTree({})


def row(port: int, inode: int, *, main: bool, address: str = "127.0.0.1") -> dict[str, object]:
    return {"protocol": "tcp", "address": address, "port": port, "inode": inode, "of_main_process": main}


def listener(port: int, inode: int) -> Listener:
    return Listener("tcp", ip_address("127.0.0.1"), port, inode)


ROWS = json.dumps([row(1, 11, main=True), row(2, 12, main=False), row(53, 13, main=False, address="127.0.0.11")])


def test_what_the_envoy_does_not_hold_its_instance_holds() -> None:
    assert parse_namespace(ROWS, ENVOY, SHIM) == ListeningSockets(
        (listener(1, 11), listener(2, 12)), {11: frozenset({ENVOY}), 12: frozenset({SHIM})}
    )


def test_without_a_program_only_the_envoys_listeners_have_a_holder() -> None:
    assert parse_namespace(ROWS, ENVOY, None) == ListeningSockets(
        (listener(1, 11), listener(2, 12)), {11: frozenset({ENVOY})}
    )


@pytest.mark.parametrize("text", ["", "no JSON", '[{"other": 1}]'])
def test_a_namespace_that_cannot_be_read_has_no_listeners(text: str) -> None:
    assert parse_namespace(text, ENVOY, SHIM) == NO_SOCKETS


def test_instances_share_the_namespace_of_this_machine_or_have_their_own() -> None:
    some, others = ListeningSockets((listener(1, 11),), {}), ListeningSockets((listener(2, 12),), {})
    shared = Namespaces(TREE, some)
    assert (shared.of("a"), list(shared.each())) == (some, [some])
    apart = Namespaces(TREE, None, {"a": some, "b": others})
    assert (apart.of("b"), apart.of("c"), list(apart.each())) == (others, NO_SOCKETS, [some, others])
