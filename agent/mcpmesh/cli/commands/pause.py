"""`mcpmesh pause`, `resume`, `reload`: one word to the agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import typer

from mcpmesh.cli.invocation import Invocation, Json, Name, invocation

if TYPE_CHECKING:
    from mcpmesh.api.client import AgentClient


def pause(ctx: typer.Context, name: Name = None, as_json: Json = False) -> None:
    """Leave the mesh as it is until `resume`.

    Nothing is healed or changed. Calls go on; what dies stays dead. For looking at a fault without the
    agent mending it at the same time.
    """
    this = invocation(ctx, name, as_json)
    _ask(this, lambda agent: agent.pause(), of_begun=True)
    _say(this, "paused", 'mesh "{}" is paused: nothing is healed or changed until: mcpmesh {}resume')


def resume(ctx: typer.Context, name: Name = None, as_json: Json = False) -> None:
    """Heal and apply again after `pause`."""
    this = invocation(ctx, name, as_json)
    _ask(this, lambda agent: agent.resume(), of_begun=True)
    _say(this, "resumed", 'mesh "{}" heals and applies again; see: mcpmesh {}status')


def reload(ctx: typer.Context, name: Name = None, as_json: Json = False) -> None:
    """Read the catalog again now.

    A saved file, one with a secret too, is noticed by itself within a second
    or two; this reads at once and says whether it can be used. Exit code 2
    when it cannot; the running catalog then stays.
    """
    this = invocation(ctx, name, as_json)
    _ask(this, lambda agent: agent.reload())
    _say(this, "reloaded", 'mesh "{}" has read its catalog again; see: mcpmesh {}status')


def _ask(this: Invocation, word: Callable[[AgentClient], Awaitable[None]], *, of_begun: bool = False) -> None:
    from mcpmesh.cli.wait.mesh_startup import until_begun

    async def ask() -> None:
        if of_begun:
            await until_begun(this)
        async with this.agent() as agent:
            await word(agent)

    this.run(ask())


def _say(this: Invocation, key: str, sentence: str) -> None:
    if this.json:
        this.output.value({key: this.name})
    else:
        this.output.line(sentence.format(this.name, this.option))
