"""What every command knows: which mesh is meant and who reads the output.

`--name` and `--json` may stand before the command and after it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mcpmesh.cli.render.output import Output

if TYPE_CHECKING:
    from mcpmesh.api.client import AgentClient
    from mcpmesh.settings import Settings

T = TypeVar("T")

# A mesh's name is part of names at Consul, which are DNS labels.
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _label(name: str | None) -> str | None:
    if name is not None and not _LABEL.fullmatch(name):
        raise typer.BadParameter("must be a DNS label: a-z, 0-9 and - inside, at most 63 characters")
    return name


Name = Annotated[
    str | None,
    typer.Option("--name", metavar="MESH", callback=_label, help='The mesh that is meant, "default" where not said.'),
]
Json = Annotated[bool, typer.Option("--json", help="Only JSON on stdout, a line each for what comes bit by bit.")]


@dataclass
class Common:
    """What stood before the command, then what stood after it."""

    name: str = "default"
    json: bool = False
    output: Output = field(default_factory=lambda: Output(False))


@dataclass(frozen=True)
class Invocation:
    """One command at work."""

    name: str
    output: Output

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
        """The folder of the mesh."""
        return self.settings.home(self.name)

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[AgentClient]:
        """The agent of the mesh; one that is starting is waited for."""
        from mcpmesh.api.client import AgentClient
        from mcpmesh.cli.teardown import answering

        await answering(self)
        async with AgentClient(self.home) as agent:
            yield agent

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` to its end; Ctrl-C cancels it and is raised again as KeyboardInterrupt."""
        import asyncio

        return asyncio.run(work)

    @property
    def option(self) -> str:
        """What has to follow "mcpmesh " to mean this mesh."""
        return "" if self.name == "default" else f"--name {self.name} "


def invocation(ctx: typer.Context, name: str | None, as_json: bool) -> Invocation:
    """Joins what stood before and after the command; the latter wins."""
    common = ctx.find_root().obj
    if not isinstance(common, Common):
        common = ctx.find_root().obj = Common()
    common.name = name or common.name
    common.json = common.json or as_json
    common.output = Output(common.json)
    return Invocation(common.name, common.output)
