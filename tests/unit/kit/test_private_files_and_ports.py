"""Ports, back-off and private files."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mcpmesh.kit.backoff import Backoff
from mcpmesh.kit.ports import PortAllocator, is_free
from mcpmesh.kit.private_files import write_private


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_port_that_is_in_use_is_not_free() -> None:
    with listening() as sock:
        held = sock.getsockname()[1]
        assert not is_free(held)


def test_ports_that_are_taken_or_were_handed_out_are_not_handed_out() -> None:
    ports = PortAllocator(15000)
    first = ports.take()
    second = ports.take({first, first + 1})
    assert second not in (first, first + 1) and ports.take() not in (first, second)


def test_back_off_doubles_to_its_ceiling_and_is_reset_by_a_success() -> None:
    now = [0.0]
    backoff = Backoff(lambda: now[0], ceiling=5)
    assert [backoff.failed("x") for _ in range(4)] == [1, 2, 4, 5]
    assert backoff.waiting("x") == 5 and backoff.waiting("y") == 0
    now[0] = 5.0
    assert backoff.waiting("x") == 0
    backoff.succeeded("x")
    assert backoff.failed("x") == 1


def test_a_private_file_is_never_readable_by_others_and_never_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two" and path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["token"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_private(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\ud800")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
