"""Finds the agent of a mesh, or says why there is none and what to do."""

from __future__ import annotations

from pathlib import Path

from mcpmesh.api import agent_lock, agent_record
from mcpmesh.api.agent_record import AgentRecord
from mcpmesh.api.problem_documents import NoAgent


class AgentNeverStarted(NoAgent):
    """No agent of that mesh was started, or the mesh was taken down."""


class AgentDied(NoAgent):
    """The agent ended without taking its mesh down: its services may still run."""


def find_agent(home: Path) -> AgentRecord:
    """The running agent of the mesh at `home`; raises AgentNeverStarted, AgentDied or, while it starts, NoAgent."""
    record = agent_record.read(home)
    if record is None or not agent_lock.is_held(home):
        raise no_agent_error(home)
    return record


def no_agent_error(home: Path) -> NoAgent:
    """Why no agent of the mesh at `home` can be reached, with the next step."""
    mesh = home.name
    if agent_lock.is_held(home):
        return NoAgent(f'cannot reach the agent of mesh "{mesh}" yet: it is starting or stopping; try again soon')
    if (record := agent_record.read(home)) is None:
        return AgentNeverStarted(
            f'cannot reach the agent of mesh "{mesh}": none is running; '
            f"start it with: {command_line(mesh, 'up -f mesh.yaml')}"
        )
    return AgentDied(
        f'cannot reach the agent of mesh "{mesh}": process {record.pid} died without taking its services down; '
        f"to keep what still runs: {command_line(mesh, 'up')}; to stop it: {command_line(mesh, 'down')}"
    )


def command_line(mesh: str, command: str) -> str:
    """`command` as a person types it for `mesh`, whose name is left out where it is the default one."""
    return f"mcpmesh {command}" if mesh == "default" else f"mcpmesh --name {mesh} {command}"
