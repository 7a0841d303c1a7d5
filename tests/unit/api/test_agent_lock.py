"""At most one agent runs for each mesh, and its lock shows that it runs."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mcpmesh.api import agent_lock
from mcpmesh.errors import Refused


def test_a_second_agent_of_the_same_mesh_is_refused(home: Path) -> None:
    with agent_lock.hold(home), pytest.raises(Refused, match="one runs already"), agent_lock.hold(home):
        pass


def test_two_meshes_have_an_agent_each(tmp_path: Path) -> None:
    with agent_lock.hold(tmp_path / "one"), agent_lock.hold(tmp_path / "two"):
        assert agent_lock.is_held(tmp_path / "one")
        assert agent_lock.is_held(tmp_path / "two")


def test_the_lock_is_free_once_the_agent_has_ended(home: Path) -> None:
    assert not agent_lock.is_held(home)
    with agent_lock.hold(home):
        assert agent_lock.is_held(home)
    assert not agent_lock.is_held(home)
    with agent_lock.hold(home):
        pass


def test_a_process_that_tests_the_lock_does_not_keep_an_agent_from_starting(home: Path) -> None:
    begun, over = threading.Event(), threading.Event()

    def agent() -> None:
        with agent_lock.hold(home, pause_seconds=0.002):
            begun.set()
            over.wait(60)

    home.mkdir(exist_ok=True)
    with (home / "agent.lock").open("w") as other:
        (home / "agent.lock").chmod(0o600)
        fcntl.flock(other, fcntl.LOCK_SH)
        starting = threading.Thread(target=agent, name="agent")
        starting.start()
        # If it took the test for another agent, it would have given up by then.
        starting.join(0.2)
        assert starting.is_alive() and not begun.is_set()
    assert begun.wait(60) and agent_lock.is_held(home)
    over.set()
    starting.join(60)
    assert not agent_lock.is_held(home)


def test_the_lock_of_a_killed_agent_is_free_though_its_children_live(home: Path) -> None:
    program = (
        "import subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from mcpmesh.api import agent_lock\n"
        "with agent_lock.hold(Path(sys.argv[1])):\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        "    print(child.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as agent:
        assert agent.stdout is not None
        child = int(agent.stdout.readline())
        assert agent_lock.is_held(home)
        agent.kill()
        agent.wait(60)
        assert not agent_lock.is_held(home)
        subprocess.run(["kill", "-9", str(child)], check=True)
