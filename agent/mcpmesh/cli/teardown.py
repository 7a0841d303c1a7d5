"""Taking a mesh down: through its agent, else by what its processes are marked with."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mcpmesh.cli.invocation import Invocation

if TYPE_CHECKING:
    from mcpmesh.cli.render.live_progress import Progress

T = TypeVar("T")

# The agent ends right after the last of its services; this is for a machine under load.
_GONE_SECONDS = 30.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Leave:
    """How a mesh went: by its agent, or `stopped` processes that were left without one."""

    by_agent: bool
    stopped: int


async def take_down(this: Invocation, progress: Progress) -> Leave:
    """Takes the mesh down and returns when nothing of it is left; raises MeshError when that fails.

    It is no matter whether the agent lives, died, or dies on the way.
    """
    from mcpmesh.api import agent_record
    from mcpmesh.api.client import AgentClient, Died, NeverStarted
    from mcpmesh.cli.render.crash_report import survivors

    by_agent = False
    try:
        await answering(this)
        async with AgentClient(this.home) as agent:
            by_agent = True
            async with aclosing(agent.down()) as events:
                async for event in events:
                    progress.event(event)
    except (Died, NeverStarted):
        by_agent = False
    await gone(this)
    if not survivors(this):
        agent_record.withdraw(this.home)
        return Leave(by_agent, 0)
    # What a dead agent left, and what a living one could not know of.
    from mcpmesh.daemon import sweep

    stopped = await in_thread(lambda: sweep(this.settings, this.name, progress.say))
    return Leave(by_agent, stopped)


async def gone(this: Invocation) -> None:
    """Returns when no agent of the mesh lives; raises NoAgent when one stays."""
    from mcpmesh.api import agent_record
    from mcpmesh.api.problem_documents import NoAgent

    end = time.monotonic() + _GONE_SECONDS
    while agent_record.alive(this.home):
        if time.monotonic() > end:
            seen = agent_record.read(this.home)
            which = f" (process {seen.pid})" if seen else ""
            raise NoAgent(
                f'cannot take mesh "{this.name}" down to the end: its agent{which} does not leave; '
                f"see {this.home / 'logs' / 'agent.log'}, kill it, then: mcpmesh {this.option}down"
            )
        await asyncio.sleep(_LOOK_SECONDS)


async def in_thread(work: Callable[[], T]) -> T:
    """Runs `work` beside the loop, in a thread that keeps nobody from leaving."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def tell(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        try:
            value, error = work(), None
        except BaseException as raised:
            value, error = None, raised
        loop.call_soon_threadsafe(tell, value, error)

    threading.Thread(target=run, name="mcpmesh work", daemon=True).start()
    return await result


async def answering(this: Invocation, first: Path = Path("/proc/1/cmdline")) -> None:
    """Waits while an agent lives that says nothing of itself: it is starting or leaving.

    So does one that is the `first` process of its container, before it has come so far as to hold its lock.
    """
    from mcpmesh.api import agent_record

    end = time.monotonic() + _GONE_SECONDS
    while agent_record.read(this.home) is None if agent_record.alive(this.home) else _is_agent(this, first):
        if time.monotonic() > end:
            return
        await asyncio.sleep(_LOOK_SECONDS)


def _is_agent(this: Invocation, cmdline: Path) -> bool:
    """Whether that is the command line of this mesh's agent, as a container's image gives it."""
    try:
        words = cmdline.read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    if "agent" not in words:
        return False
    before = words[: words.index("agent")]
    named = [word.removeprefix("--name=") for word in words if word.startswith("--name=")]
    named += [after for word, after in itertools.pairwise(words) if word == "--name"]
    return any(Path(word).name == "mcpmesh" for word in before) and (named or ["default"])[-1] == this.name
