"""What every command needs: the mesh that it is for, its output and its clock.

`--name` and `--json` may stand before the command and after it.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mcpmesh.cli.clock import REAL_TIME, Clock
from mcpmesh.cli.render.output import Output

if TYPE_CHECKING:
    from mcpmesh.api.client import AgentClient
    from mcpmesh.settings import Settings

T = TypeVar("T")

# A mesh's name is part of names in Consul, which are DNS labels.
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _require_dns_label(name: str | None) -> str | None:
    if name is not None and not _DNS_LABEL.fullmatch(name):
        raise typer.BadParameter("must be a DNS label: a-z, 0-9 and, inside, -; at most 63 characters")
    return name


NameOption = Annotated[
    str | None,
    typer.Option("--name", metavar="MESH", callback=_require_dns_label, help='The mesh; "default" if not given.'),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print only JSON; a stream has one value a line.")]


@dataclass
class Common:
    """The options of all commands: as given before the command, then joined with those after it."""

    name: str = "default"
    json: bool = False
    output: Output = field(default_factory=lambda: Output(False))
    clock: Clock = REAL_TIME


@dataclass(frozen=True)
class Invocation:
    """One run of a command."""

    name: str
    output: Output
    clock: Clock = REAL_TIME

    @property
    def json(self) -> bool:
        return self.output.json

    @cached_property
    def settings(self) -> Settings:
        """Raises SettingsError."""
        from mcpmesh.settings import read_settings

        return read_settings()

    @property
    def home(self) -> Path:
        """The home folder of the mesh."""
        return self.settings.home(self.name)

    def agent(self) -> AbstractAsyncContextManager[AgentClient]:
        """A client of the mesh's agent; waits while the agent is starting."""
        from mcpmesh.cli.wait.agent_startup import connect

        return connect(self.home, self.clock)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` to its end; Ctrl-C cancels it and is raised as KeyboardInterrupt."""
        import asyncio

        return asyncio.run(work)

    def command_line(self, command: str) -> str:
        """`command` as the person has to type it for this mesh: "mcpmesh --name staging down"."""
        from mcpmesh.api.agent_lookup import command_line

        return command_line(self.name, command)


def resolve_invocation(ctx: typer.Context, name: str | None, as_json: bool) -> Invocation:
    """Joins the options before and after the command; those after it win."""
    common = ctx.find_root().obj
    if not isinstance(common, Common):
        common = ctx.find_root().obj = Common()
    common.name = name or common.name
    common.json = common.json or as_json
    common.output = Output(common.json)
    return Invocation(common.name, common.output, common.clock)
