"""Keeps the main server process running, and knows whether it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mcpmesh.shim.context import Context
from mcpmesh.shim.errors import Failure
from mcpmesh.shim.log import log
from mcpmesh.shim.protocol.server_info import ServerInfo
from mcpmesh.shim.server.guard_client import SpawnError
from mcpmesh.shim.server.handshake import NotMcp, SpokeBothEras, handshake, responds
from mcpmesh.shim.server.lifecycle import Lifecycle
from mcpmesh.shim.server.peer import Peer, exit_failure
from mcpmesh.shim.server.pool import Pool
from mcpmesh.shim.server.tool_list import list_tools

# After this time up (seconds) the server's next exit does not count as a failed start.
STABLE_SECONDS: Final = 10.0


class Supervisor:
    """Starts the main process, and starts it again after each exit."""

    def __init__(
        self,
        context: Context,
        pool: Pool,
        lifecycle: Lifecycle,
        server_info: ServerInfo,
        on_started: Callable[[], None],
    ) -> None:
        """`on_started` is called whenever a new main process is ready."""
        self.context = context
        self.config = context.config
        self.limits = context.limits
        self.pool = pool
        self.lifecycle = lifecycle
        self.server_info = server_info
        self.on_started = on_started
        self._discover = True
        self._answered_at = 0.0
        self._probe_task: asyncio.Task[bool] | None = None

    async def run(self) -> None:
        """Run until the pool closes."""
        while True:
            await self._run_once()
            if self.pool.closing:
                return
            await asyncio.sleep(self.lifecycle.retry_seconds)
            if self.lifecycle.state == "restarting":
                self.lifecycle.set("starting", self.lifecycle.error)

    async def _run_once(self) -> None:
        """Run one main process from its start to its exit."""
        pool = self.pool
        began = self.context.now()
        try:
            peer = await pool.start()
        except (SpawnError, Failure) as error:
            self.lifecycle.down(str(error), None, None, was_stable=False)
            return
        try:
            await self._initialize(peer)
        except SpokeBothEras:
            await pool.stop(peer)
            if not pool.closing:
                await self._run_once()
            return
        except (Failure, TimeoutError, NotMcp) as error:
            await self._start_failed(peer, error)
            return
        pool.main = peer
        self._answered_at = self.context.now()
        self.on_started()
        self.lifecycle.up()
        pool.refill_spares()
        await peer.channel.exited.wait()
        pool.main = None
        if not pool.closing:
            self.context.metrics.count("server_exits")
            exit = peer.channel.exit
            was_stable = self.context.now() - began > STABLE_SECONDS
            self.lifecycle.down(f"the server {exit}", exit, peer.tail, was_stable)

    async def _initialize(self, peer: Peer) -> None:
        peer.listener = self.pool.listener
        await handshake(peer, self.server_info, self.config.start_seconds, self._discover)
        await list_tools(peer, self.server_info)
        if peer.channel.exit is not None:
            raise exit_failure(peer.channel.exit)

    async def _start_failed(self, peer: Peer, error: Exception) -> None:
        if self.pool.closing:
            return
        exit = peer.channel.exit
        if exit is not None:
            sentence = f"the server {exit} before it spoke MCP"
            # Some servers exit at a method that they don't know; the next try begins with initialize.
            if self.server_info.modern is None and exit.error is None:
                self._discover = not self._discover
        elif isinstance(error, TimeoutError):
            seconds = self.config.start_seconds
            sentence = f"the server did not answer within {seconds:g} s; see its output or raise start_seconds"
        else:
            sentence = f"the server {error}"
        await self.pool.stop(peer)
        self.context.metrics.count("server_exits")
        self.lifecycle.down(sentence, exit, peer.tail, was_stable=False)

    async def answers(self) -> bool:
        """Whether the server answered within the last probe_seconds; it is probed if nothing else shows it."""
        peer = self.pool.main
        if peer is None or not peer.alive:
            return False
        if self.context.now() - max(peer.last_answer, self._answered_at) < self.limits.probe_seconds:
            return True
        if self._probe_task is None or self._probe_task.done():
            self._probe_task = asyncio.create_task(self._probe(peer), name="probe")
        return await asyncio.shield(self._probe_task)

    async def _probe(self, peer: Peer) -> bool:
        if await responds(peer, self.limits.probe_timeout_seconds):
            self._answered_at = self.context.now()
            return True
        if peer.works_for_clients:
            # Some servers answer nothing else while they work; the call has a deadline of its own.
            return peer.alive
        if peer.alive:
            seconds = self.limits.probe_timeout_seconds
            log("the server did not answer a probe within %g s and is started again", seconds)
            peer.channel.kill()
        return False
