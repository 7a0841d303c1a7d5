"""A connection can vanish where a namespace is permitted; elsewhere a sentence says what would help."""

from __future__ import annotations

import os
import subprocess
import sys

# Drops the capability, if this process has it.
WITHOUT = ["setpriv", "--bounding-set", "-net_admin"] if os.geteuid() == 0 else []


def run(program: str) -> str:
    """The output of a program without the permission to administer the network."""
    words = "import socket, threading\nfrom tests.soak.namespace import NotAllowed, let_vanish, may_vanish\n"
    done = subprocess.run([*WITHOUT, sys.executable, "-c", words + program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_the_capability_a_connection_vanishes_in_a_namespace_with_loopback() -> None:
    output = run(
        "before = may_vanish()\n"
        "let_vanish()\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname())\n"
        "print(before, may_vanish())\n"
    )
    assert output == "False True"


def test_if_the_kernel_refuses_the_namespace_a_sentence_says_what_would_help() -> None:
    # The kernel refuses a namespace to a process with a second thread.
    output = run(
        "end = threading.Event()\n"
        "threading.Thread(target=end.wait).start()\n"
        "try:\n"
        "    let_vanish()\n"
        "except NotAllowed as error:\n"
        "    print(error)\n"
        "end.set()\n"
    )
    assert output.startswith("cannot let a connection vanish without a word: that takes CAP_NET_ADMIN")
    assert "--cap-add NET_ADMIN" in output
