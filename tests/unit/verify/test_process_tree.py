"""Which process came from which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.support.mesh import wait_for

from mcpmesh.verify.probes import process_tree
from mcpmesh.verify.probes.process_tree import Kin, Tree, parse

FAMILY = Tree({1: Kin(0, "init", "S"), 10: Kin(1, "shim", "S"), 20: Kin(10, "guard", "S"), 30: Kin(20, "server", "S")})


def test_a_name_may_hold_spaces_and_parentheses() -> None:
    assert parse("17 (a (b) c) S 4 17 17 0 -1 4194304") == Kin(4, "a (b) c", "S")


def test_the_nearest_ancestor_is_found() -> None:
    assert FAMILY.ancestor_in(30, {10, 20}) == 20
    assert FAMILY.ancestor_in(30, {10}) == 10
    assert FAMILY.ancestor_in(10, {10}) == 10


def test_init_is_nobodys_ancestor() -> None:
    assert FAMILY.ancestor_in(30, {1}) is None
    assert FAMILY.ancestor_in(99, {10}) is None


def test_parents_that_go_in_a_circle_end_the_search() -> None:
    assert Tree({5: Kin(6, "a", "S"), 6: Kin(5, "b", "S")}).ancestor_in(5, {7}) is None


def test_a_real_child_is_found_and_told_to_be_stopped() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        found = process_tree.look()
        assert found.ancestor_in(child.pid, {os.getpid()}) == os.getpid()
        assert not found.stopped(child.pid)
        child.send_signal(signal.SIGSTOP)
        wait_for("it is stopped", lambda: process_tree.look().stopped(child.pid))
    finally:
        child.kill()
        child.wait()
    assert process_tree.look().name(child.pid) == "gone"
