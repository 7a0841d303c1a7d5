"""Waiting for an agent that starts or ends has a bound."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mcpmesh.api import agent_lock, agent_record
from mcpmesh.api.problem_documents import NoAgent
from mcpmesh.cli.clock import Clock
from mcpmesh.cli.wait.agent_startup import until_agent_ended, until_agent_listens

# A bound of 30 seconds ends after 0.03.
CLOCK = Clock(speed=1000.0, poll_speed=100.0)


async def test_an_agent_that_does_not_end_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    home = tmp_path / "staging"
    with agent_lock.hold(home):
        agent_record.write(home, agent_record.AgentRecord(4711, "http://127.0.0.1:1", time.time(), "0.1.0"))
        with pytest.raises(NoAgent) as raised:
            await until_agent_ended(home, CLOCK)
    assert str(raised.value) == (
        'cannot take mesh "staging" down completely: its agent (process 4711) does not end; '
        f"see {home / 'logs' / 'agent.log'}, kill it, then: mcpmesh --name staging down"
    )


async def test_waiting_ends_at_once_when_the_agent_has_ended(tmp_path: Path) -> None:
    with agent_lock.hold(tmp_path / "default"):
        pass
    await until_agent_ended(tmp_path / "default", Clock())


async def test_an_agent_that_never_listens_is_not_waited_for_without_a_bound(tmp_path: Path) -> None:
    with agent_lock.hold(tmp_path / "default"):
        await until_agent_listens(tmp_path / "default", CLOCK, first_process=tmp_path / "none")
