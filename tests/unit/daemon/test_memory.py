"""What a mesh remembers, and how it gives way to others."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from mcpmesh.api import presence
from mcpmesh.daemon.memory import INGRESS_PORT, Memory
from mcpmesh.errors import SettingsError
from mcpmesh.kit.ports import Ports
from mcpmesh.settings import IngressSettings

NAMES = ("http", "grpc")


def nothing(sentence: str) -> None:
    raise AssertionError(sentence)


def hold(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen()
    return sock


def test_ports_are_remembered(tmp_path: Path) -> None:
    first = Memory(tmp_path).ports(NAMES, Ports(16000), set())
    assert Memory(tmp_path).ports(NAMES, Ports(16500), set()) == first


def test_remembered_ports_that_somebody_took_are_replaced(tmp_path: Path) -> None:
    first = Memory(tmp_path).ports(NAMES, Ports(16000), set())
    with hold(first["grpc"]):
        assert not set(first.values()) & set(Memory(tmp_path).ports(NAMES, Ports(16500), set()).values())


def test_remembered_ports_that_our_own_process_holds_are_kept(tmp_path: Path) -> None:
    first = Memory(tmp_path).ports(NAMES, Ports(16000), set())
    with hold(first["grpc"]):
        assert Memory(tmp_path).ports(NAMES, Ports(16500), set(), holding=True) == first


@pytest.mark.parametrize("text", ["", "[]", "{", '{"http": "x"}', "null"])
def test_a_damaged_memory_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    assert Memory(tmp_path).ports(NAMES, Ports(16000), set()).keys() == set(NAMES)


def test_an_ingress_port_that_was_asked_for_and_is_taken_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    port = Ports(16800).take()
    with hold(port), pytest.raises(SettingsError, match=f"127.0.0.1:{port}: the port is taken.*MCPMESH_INGRESS__PORT"):
        Memory(tmp_path).ingress_port(IngressSettings(port=port), set(), None, nothing)


def test_a_port_that_our_own_ingress_holds_is_kept(tmp_path: Path) -> None:
    assert Memory(tmp_path).ingress_port(IngressSettings(), set(), 26999, nothing) == 26999


def test_a_taken_port_is_given_up_for_once_and_said(tmp_path: Path) -> None:
    usual = Ports(17000).take()
    (tmp_path / "ports.json").write_text(f'{{"ingress": {usual}}}')
    said: list[str] = []
    with hold(usual):
        other = Memory(tmp_path).ingress_port(IngressSettings(), set(), None, said.append)
    assert said == [f"port {usual} is taken, so the ingress is at {other}"]
    assert Memory(tmp_path).ingress_port(IngressSettings(), set(), None, nothing) == usual


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    key = Memory(tmp_path).key()
    assert Memory(tmp_path).key() == key and len(key) == 64
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_each_name_keeps_its_port_whatever_others_come_and_go(tmp_path: Path) -> None:
    first = Memory(tmp_path).ports_for(["files", "time"], Ports(17200), set(), holding=False)
    more = Memory(tmp_path).ports_for(["shop", "files"], Ports(17200), set(), holding=False)
    assert more["files"] == first["files"] and more["shop"] not in first.values()
    assert Memory(tmp_path).ports_for(["time"], Ports(17200), set(), holding=False) == {"time": first["time"]}


def test_a_port_that_somebody_took_is_given_up_alone(tmp_path: Path) -> None:
    first = Memory(tmp_path).ports_for(["files", "time"], Ports(17300), set(), holding=False)
    with hold(first["files"]):
        assert Memory(tmp_path).ports_for(first, Ports(17300), set(), holding=True) == first
        second = Memory(tmp_path).ports_for(first, Ports(17300), set(), holding=False)
    assert second["time"] == first["time"] and second["files"] not in first.values()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the homes of several meshes are."""
    return tmp_path / "state"


def test_what_another_mesh_chose_is_not_chosen_though_nothing_listens_there_yet(folder: Path) -> None:
    with presence.held(folder / "a"):
        first = Memory(folder / "a").ports(NAMES, Ports(17400), set())
        second = Memory(folder / "b").ports(NAMES, Ports(17400), set())
        third = Memory(folder / "c").ports_for(NAMES, Ports(17400), set(), holding=False)
    assert not set(first.values()) & {*second.values(), *third.values()}


def test_what_another_mesh_chose_meanwhile_is_given_up(folder: Path) -> None:
    first = Memory(folder / "a").ports(NAMES, Ports(17500), set())
    with presence.held(folder / "b"):
        (folder / "b" / "ports.json").write_text(json.dumps(first))
        assert not set(first.values()) & set(Memory(folder / "a").ports(NAMES, Ports(17500), set()).values())


def test_a_mesh_that_is_down_holds_no_port(folder: Path) -> None:
    first = Memory(folder / "a").ports(NAMES, Ports(17600), set())
    assert Memory(folder / "b").ports(NAMES, Ports(17600), set()) == first


def test_two_ingresses_that_begin_together_are_at_two_ports(folder: Path) -> None:
    said: list[str] = []
    with presence.held(folder / "a"):
        first = Memory(folder / "a").ingress_port(IngressSettings(), set(), None, said.append)
        second = Memory(folder / "b").ingress_port(IngressSettings(), set(), None, said.append)
    assert first != second
    assert said[-1] == f"port {INGRESS_PORT} is taken, so the ingress is at {second}"
