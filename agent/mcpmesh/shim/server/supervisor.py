"""Keeps the main process running, and knows whether it answers."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from mcpmesh.shim.errors import Failure
from mcpmesh.shim.log import say
from mcpmesh.shim.server.guard_client import SpawnError
from mcpmesh.shim.server.handshake import NotMcp, SpokeBoth, introduce, list_tools, probe
from mcpmesh.shim.server.peer import Child
from mcpmesh.shim.server.pool import Supply, any_at_work
from mcpmesh.shim.subscriptions.hub import Subscriptions

# Up for so long (seconds), a server's next end is not counted as a failed start.
SETTLED_SECONDS: Final = 10.0


class Keeper:
    """One life of the main process after another."""

    def __init__(self, supply: Supply, subscriptions: Subscriptions) -> None:
        self.supply = supply
        self.state = supply.state
        self.config = supply.config
        self.limits = supply.limits
        self.profile = supply.profile
        self.subscriptions = subscriptions
        self._discover = True
        self._proven = 0.0
        self._probing: asyncio.Task[bool] | None = None

    async def run(self) -> None:
        """Until told to close."""
        while True:
            await self._live()
            if self.supply.closing:
                return
            await asyncio.sleep(self.state.retry_seconds)
            if self.state.name == "restarting":
                self.state.set("starting", self.state.error)

    async def _live(self) -> None:
        supply = self.supply
        began = time.monotonic()
        try:
            child = await supply.start()
        except (SpawnError, Failure) as error:
            self.state.down(str(error), None, None, settled=False)
            return
        try:
            await self._open(child)
        except SpokeBoth:
            await supply.stop(child)
            if not supply.closing:
                await self._live()
            return
        except (Failure, TimeoutError, NotMcp) as error:
            await self._failed(child, error)
            return
        supply.main = child
        self._proven = time.monotonic()
        self.subscriptions.main_started()
        self.state.up()
        supply.refill()
        await child.process.gone.wait()
        supply.main = None
        if not supply.closing:
            supply.metrics.count("server_exits")
            settled = time.monotonic() - began > SETTLED_SECONDS
            self.state.down(f"the server {child.process.exit}", child.process.exit, child.tail, settled)

    async def _open(self, child: Child) -> None:
        child.listener = self.supply.listener
        await introduce(child, self.profile, self.config.start_seconds, self._discover)
        await list_tools(child, self.profile)
        if child.process.exit is not None:
            raise child.loss(child.process.exit)

    async def _failed(self, child: Child, error: Exception) -> None:
        if self.supply.closing:
            return
        exit = child.process.exit
        if exit is not None:
            sentence = f"the server {exit} before it spoke MCP"
            # Some servers end at a method that they don't know; the next try begins with initialize.
            if self.profile.modern is None and exit.error is None:
                self._discover = not self._discover
        elif isinstance(error, TimeoutError):
            seconds = self.config.start_seconds
            sentence = f"the server did not answer within {seconds:g} s; see its output or raise start_seconds"
        else:
            sentence = f"the server {error}"
        await self.supply.stop(child)
        self.supply.metrics.count("server_exits")
        self.state.down(sentence, exit, child.tail, settled=False)

    async def proven(self) -> bool:
        """Whether the server answered lately, by asking it where nothing else did."""
        child = self.supply.main
        if child is None or not child.alive:
            return False
        now = time.monotonic()
        if now - max(child.last_answer, self._proven) < self.limits.probe_seconds:
            return True
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe(child), name="probe")
        return await asyncio.shield(self._probing)

    async def _probe(self, child: Child) -> bool:
        if await probe(child, self.limits.probe_timeout_seconds):
            self._proven = time.monotonic()
            return True
        if any_at_work(child):
            # Some servers answer nothing else while they work; the call has its own deadline.
            return child.alive
        if child.alive:
            say("the server did not answer a probe within %g s and is started anew", self.limits.probe_timeout_seconds)
            child.process.kill()
        return False

    async def refresh(self) -> None:
        """Ask for the tools again."""
        if (child := self.supply.main) is not None and child.alive:
            await list_tools(child, self.profile)
