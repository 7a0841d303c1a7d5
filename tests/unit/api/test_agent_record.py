"""An agent is alive for as long as it holds its lock, and there is one for a mesh."""

from __future__ import annotations

import fcntl
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mcpmesh.api import agent_record
from mcpmesh.errors import Refused


def test_a_second_agent_of_the_same_mesh_is_refused(home: Path) -> None:
    with agent_record.held(home), pytest.raises(Refused, match="one runs already"), agent_record.held(home):
        pass


def test_two_meshes_have_an_agent_each(tmp_path: Path) -> None:
    with agent_record.held(tmp_path / "one"), agent_record.held(tmp_path / "two"):
        assert agent_record.alive(tmp_path / "one")
        assert agent_record.alive(tmp_path / "two")


def test_the_lock_is_free_after_the_agent(home: Path) -> None:
    assert not agent_record.alive(home)
    with agent_record.held(home):
        assert agent_record.alive(home)
    assert not agent_record.alive(home)
    with agent_record.held(home):
        pass


def test_who_only_looks_keeps_no_agent_from_starting_however_long_it_stands_still(home: Path) -> None:
    begun, over = threading.Event(), threading.Event()

    def agent() -> None:
        with agent_record.held(home):
            begun.set()
            over.wait(60)

    home.mkdir(exist_ok=True)
    with (home / "agent.lock").open("w") as look:
        (home / "agent.lock").chmod(0o600)
        fcntl.flock(look, fcntl.LOCK_SH)
        starting = threading.Thread(target=agent, name="agent")
        starting.start()
        # Who takes it for another agent has given up by then.
        starting.join(1.0)
        assert starting.is_alive() and not begun.is_set()
    assert begun.wait(60) and agent_record.alive(home)
    over.set()
    starting.join(60)
    assert not agent_record.alive(home)


def test_a_killed_agent_is_not_alive_though_its_children_live(home: Path) -> None:
    program = (
        "import subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from mcpmesh.api import agent_record\n"
        "with agent_record.held(Path(sys.argv[1])):\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        "    print(child.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as agent:
        assert agent.stdout is not None
        child = int(agent.stdout.readline())
        assert agent_record.alive(home)
        agent.kill()
        agent.wait(60)
        assert not agent_record.alive(home)
        subprocess.run(["kill", "-9", str(child)], check=True)


def test_what_it_leaves_is_private(home: Path) -> None:
    with agent_record.held(home):
        token = agent_record.mint_token(home)
        agent_record.announce(home, agent_record.Presence(1, "http://127.0.0.1:80", 1.0, "0.1.0"))
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("agent.lock", "agent.json", "token"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert agent_record.read_token(home) == token
    assert token.get_secret_value() not in (home / "agent.json").read_text()
    assert token.get_secret_value() not in repr(token)


def test_every_agent_has_a_token_of_its_own(home: Path) -> None:
    assert agent_record.mint_token(home) != agent_record.mint_token(home)


def test_nothing_is_found_after_it_withdrew(home: Path) -> None:
    agent_record.mint_token(home)
    agent_record.announce(home, agent_record.Presence(1, "http://127.0.0.1:80", 1.0, "0.1.0"))
    agent_record.withdraw(home)
    agent_record.withdraw(home)
    assert agent_record.read(home) is None
    assert agent_record.read_token(home) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_is_this_machine(host: str) -> None:
    assert agent_record.is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.0.2.1", "example.org", "localhost.example.org", "127.1"])
def test_anything_else_is_not(host: str) -> None:
    assert not agent_record.is_loopback(host)
