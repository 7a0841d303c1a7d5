"""Which process is the parent of which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.support.mesh import wait_for

from mcpmesh.verify.probes import process_tree
from mcpmesh.verify.probes.process_tree import Node, ProcessTree, parse_stat

FAMILY = ProcessTree(
    {1: Node(0, "init", "S"), 10: Node(1, "shim", "S"), 20: Node(10, "guard", "S"), 30: Node(20, "server", "S")}
)


def test_a_name_may_hold_spaces_and_parentheses() -> None:
    assert parse_stat("17 (a (b) c) S 4 17 17 0 -1 4194304") == Node(4, "a (b) c", "S")


def test_the_nearest_ancestor_is_found() -> None:
    assert FAMILY.nearest(30, {10, 20}) == 20
    assert FAMILY.nearest(30, {10}) == 10
    assert FAMILY.nearest(10, {10}) == 10


def test_init_never_counts_as_an_ancestor() -> None:
    assert FAMILY.nearest(30, {1}) is None
    assert FAMILY.nearest(99, {10}) is None


def test_parents_that_go_in_a_circle_end_the_search() -> None:
    assert ProcessTree({5: Node(6, "a", "S"), 6: Node(5, "b", "S")}).nearest(5, {7}) is None


def test_a_real_child_is_found_and_seen_to_be_stopped() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        found = process_tree.read_tree()
        assert found.nearest(child.pid, {os.getpid()}) == os.getpid()
        assert not found.is_stopped(child.pid)
        child.send_signal(signal.SIGSTOP)
        wait_for("it is stopped", lambda: process_tree.read_tree().is_stopped(child.pid))
    finally:
        child.kill()
        child.wait()
    assert process_tree.read_tree().name(child.pid) == "gone"
