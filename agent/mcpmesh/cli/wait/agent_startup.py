"""Waits for an agent that is starting or stopping, and connects to it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mcpmesh.api import agent_lock, agent_record
from mcpmesh.api.agent_lookup import command_line
from mcpmesh.api.client import AgentClient
from mcpmesh.api.problem_documents import NoAgent
from mcpmesh.cli.clock import Clock

# An agent starts within a second, and ends right after the last of its services; the rest is for a machine under load.
_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.1

_FIRST_PROCESS = Path("/proc/1/cmdline")


@asynccontextmanager
async def connect(home: Path, clock: Clock) -> AsyncIterator[AgentClient]:
    """A client of the agent of the mesh at `home`; waits while the agent is starting."""
    await until_agent_listens(home, clock)
    async with AgentClient(home) as agent:
        yield agent


async def until_agent_listens(home: Path, clock: Clock, first_process: Path = _FIRST_PROCESS) -> None:
    """Waits while the agent of the mesh at `home` runs without a record: it is starting or stopping.

    In a container the agent may be the first process, not yet far enough to hold its lock: its command line
    (`first_process`) shows that it is starting. Returns after a bound; the next request then says what is wrong.
    """
    end = clock.now() + _TIMEOUT_SECONDS
    while _is_starting(home, first_process) and clock.now() <= end:
        await clock.pause(_POLL_SECONDS)


async def until_agent_ended(home: Path, clock: Clock) -> None:
    """Waits until no agent of the mesh at `home` runs; raises NoAgent when one does not end in time."""
    end = clock.now() + _TIMEOUT_SECONDS
    while agent_lock.is_held(home):
        if clock.now() > end:
            record = agent_record.read(home)
            process = f" (process {record.pid})" if record else ""
            raise NoAgent(
                f'cannot take mesh "{home.name}" down completely: its agent{process} does not end; '
                f"see {home / 'logs' / 'agent.log'}, kill it, then: {command_line(home.name, 'down')}"
            )
        await clock.pause(_POLL_SECONDS)


def _is_starting(home: Path, first_process: Path) -> bool:
    if agent_lock.is_held(home):
        return agent_record.read(home) is None
    return _is_command_line_of_agent(first_process, home.name)


def _is_command_line_of_agent(path: Path, mesh: str) -> bool:
    """Whether the file holds the command line of this mesh's agent, as a container image gives it."""
    try:
        words = path.read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    if "agent" not in words:
        return False
    names = [word.removeprefix("--name=") for word in words if word.startswith("--name=")]
    names += [value for word, value in itertools.pairwise(words) if word == "--name"]
    program = words[: words.index("agent")]
    return any(Path(word).name == "mcpmesh" for word in program) and (names or ["default"])[-1] == mesh
