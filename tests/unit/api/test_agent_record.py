"""The files by which clients find an agent are private, and are removed with it."""

from __future__ import annotations

import stat
from pathlib import Path

from mcpmesh.api import agent_lock, agent_record


def test_the_files_of_an_agent_are_private(home: Path) -> None:
    with agent_lock.hold(home):
        token = agent_record.create_token(home)
        agent_record.write(home, agent_record.AgentRecord(1, "http://127.0.0.1:80", 1.0, "0.1.0"))
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("agent.lock", "agent.json", "token"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert agent_record.read_token(home) == token
    assert token.get_secret_value() not in (home / "agent.json").read_text()
    assert token.get_secret_value() not in repr(token)


def test_every_start_has_a_new_token(home: Path) -> None:
    assert agent_record.create_token(home) != agent_record.create_token(home)


def test_nothing_is_found_after_the_record_is_removed(home: Path) -> None:
    agent_record.create_token(home)
    agent_record.write(home, agent_record.AgentRecord(1, "http://127.0.0.1:80", 1.0, "0.1.0"))
    agent_record.remove(home)
    agent_record.remove(home)
    assert agent_record.read(home) is None
    assert agent_record.read_token(home) is None
