"""Server processes as they are needed: one kept for everybody, others by isolation.

The kept one (`main`) is started at once and again whenever it ends, with a
back-off that doubles; it proves that the service works, answers modern requests,
and in shared isolation everything. Its story is the shim's state: starting,
ready, restarting, crash-loop, failed. Spares are there for the next session
(isolation session: up but not spoken to, so that a session's own `initialize`
reaches a process that is up) or the next call (isolation request: introduced,
used for one call, stopped).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, Final

from mcpmesh.shim.config import Config
from mcpmesh.shim.errors import Failure, unavailable
from mcpmesh.shim.log import say
from mcpmesh.shim.metrics import Metrics
from mcpmesh.shim.protocol.server_info import Profile
from mcpmesh.shim.server import rlimits
from mcpmesh.shim.server.guard_client import Guardian, SpawnError
from mcpmesh.shim.server.handshake import NotMcp, SpokeBoth, introduce
from mcpmesh.shim.server.lifecycle import State
from mcpmesh.shim.server.peer import Channel, Child, Listener
from mcpmesh.shim.server.stdio_process import ServerProcess

# More processes for calls that need one for themselves than this many are not kept besides the main one.
MAX_EXTRAS: Final = 8


class Use(Enum):
    """What a call needs of its process."""

    PLAIN = "is of a method that asks nothing, so it runs beside any other"
    SHARED = "runs beside others, but not beside one that is being asked"
    ASKABLE = "might be asked, so not where a call was given up whose question it could be either"
    ALONE = "is known to be asked, so no other call may be there that the question could belong to"

    def fits(self, child: Child) -> bool:
        """Whether the process can take such a call now."""
        if self is Use.PLAIN:
            return True
        if child.lease is not None or (self is not Use.SHARED and child.haunted):
            return False
        return self is not Use.ALONE or not any(call.may_ask for call in child.calls.values())


def any_at_work(child: Child) -> bool:
    """Whether a client's call runs there."""
    return any(call.at_work for call in child.calls.values())


def _not_possible(error: OSError) -> Failure:
    return unavailable(f"cannot start a server: {error.strerror}", "full")


class Supply:
    """Owner of all server processes of the shim."""

    def __init__(self, config: Config, guardian: Guardian, metrics: Metrics, profile: Profile) -> None:
        self.config = config
        self.limits = config.limits
        self.guardian = guardian
        self.metrics = metrics
        self.profile = profile
        self.listener: Listener | None = None
        """Who hears what kept processes say."""
        self.state = State(config.limits)
        self.children: set[Child] = set()
        self.main: Child | None = None
        self.slack = False
        """A process or a client is gone, and the memory that was its share has not been given back yet."""
        self.closing = False
        self._spares: list[Child] = []
        self._extras: list[Child] = []
        self._coming = 0
        """Extras that are being started."""
        self._barren = 0.0
        """Until when no extra is started, since the last could not be."""
        self._sharing = asyncio.Lock()
        self._filling = False
        self._numbers = 0
        self._used = time.monotonic()
        self._tasks: set[asyncio.Task[object]] = set()

    # Any process.

    async def start(self) -> Child:
        """A new process, not spoken to yet; raises SpawnError, or Failure when there are too many or no means."""
        if self.closing:
            raise unavailable("cannot start a server: the shim is stopping", "draining")
        if sum(not child.stopping for child in self.children) >= self.limits.children:
            raise unavailable(
                f"cannot start another server: {len(self.children)} run already (limits.children)", "full"
            )
        if self.config.url is None and self.guardian.pid == 0:
            try:
                self.guardian.launch()
            except OSError as error:
                raise _not_possible(error) from None
            rlimits.give_back(self.guardian.pid)
        self._numbers += 1
        channel = self._channel()
        child = Child(channel, self.limits, self.metrics, self._numbers)
        channel.on_oversize = child.oversize
        self.children.add(child)
        self.metrics.count("server_starts")
        try:
            await channel.start()
        except BaseException as error:
            # It never ran, so its end would be waited for in vain.
            self.children.discard(child)
            if isinstance(error, OSError):
                raise _not_possible(error) from None
            raise
        self.spawn(self._discard_when_gone(child), "child")
        return child

    def _channel(self) -> Channel:
        if self.config.url is None:
            return ServerProcess(self.guardian, self.limits.line_bytes)
        # Only here, since most shims never need an HTTP client.
        from mcpmesh.shim.server.remote_http import RemoteServer

        return RemoteServer(self.config, self.profile, self.limits.line_bytes)

    async def _discard_when_gone(self, child: Child) -> None:
        await child.process.gone.wait()
        self.children.discard(child)
        self.slack = True
        for kept in (self._spares, self._extras):
            if child in kept:
                kept.remove(child)
                self.metrics.count("server_exits")

    async def introduced(self) -> Child:
        """A new process that was spoken to, for calls of many callers; raises Failure."""
        try:
            child = await self.start()
        except SpawnError as error:
            raise unavailable(str(error), "failed") from None
        child.listener = self.listener
        try:
            await introduce(child, self.profile, self.config.start_seconds)
        except (Failure, TimeoutError, NotMcp, SpokeBoth) as error:
            exit = child.process.exit
            self.stop_soon(child)
            if exit is not None:
                reason = f"it {exit} before it spoke MCP"
            elif isinstance(error, TimeoutError):
                reason = f"it did not begin to speak MCP within {self.config.start_seconds:g} s"
            else:
                reason = "it is being stopped" if isinstance(error, Failure) else f"it {error}"
            raise unavailable(f"cannot start another server: {reason}", "failed") from None
        return child

    async def stop(self, child: Child) -> None:
        """Stop a process in order."""
        await child.stop()
        self.children.discard(child)

    def stop_soon(self, child: Child) -> None:
        """Stop a process in order, without waiting for it."""
        if not child.stopping:
            child.stopping = True
            self.spawn(self.stop(child), "stop")

    def unready(self) -> Failure:
        """503: why no process is there."""
        return self.state.unready()

    async def ready_main(self) -> Child:
        """The kept process, waited for while it starts; raises Failure when there is none to wait for."""
        while self.main is None or not self.main.alive:
            if self.closing or self.state.name not in ("starting", "ready"):
                raise self.unready()
            if not await self.state.change(self.config.start_seconds):
                raise self.unready()
        return self.main

    # One process for one session.

    def spare(self) -> Child | None:
        """A process that is up and was not spoken to, if one is there."""
        self._used = time.monotonic()
        while self._spares:
            child = self._spares.pop(0)
            if child.alive:
                self.refill()
                return child
        return None

    async def take(self) -> Child:
        """A process for one owner, started if no spare is there; raises Failure."""
        child = self.spare()
        if child is not None:
            return child
        if self.state.name in ("crash-loop", "failed"):
            raise self.unready()
        try:
            child = await self.start()
        except SpawnError as error:
            raise unavailable(str(error), "failed") from None
        self.refill()
        return child

    # Processes for calls of many callers.

    def pick(self, use: Use) -> Child | None:
        """A process that can take a call now."""
        if self.config.isolation == "request":
            return self.spare()
        main = self.main
        if main is None or not main.alive:
            return None
        if self.config.isolation == "shared":
            return main
        # A call that has to be alone leaves the one that all others use to them, wherever another can run.
        for child in self._extras if use is Use.ALONE else (main, *self._extras):
            if child.alive and use.fits(child):
                if child is not main:
                    self._used = time.monotonic()
                return child
        if use is Use.SHARED:
            # Its client can't be asked: it need not wait for a process, the next ones find one.
            if not self._coming:
                self.spawn(self._extra(), "one more process")
            return main
        return None

    async def obtain(self, use: Use) -> Child:
        """The same, waited for; raises Failure."""
        await self.ready_main()
        child = self.pick(use)
        if child is not None:
            return child
        if self.config.isolation == "request":
            child = await self.introduced()
            self.refill()
            return child
        if use is Use.ALONE:
            child = await self._extra()
        else:
            # All that wait can run in the one that the first of them starts.
            async with self._sharing:
                child = self.pick(use) or await self._extra()
        if child is not None:
            return child
        # One that others use too: then the server can't ask, but it can answer.
        await self.ready_main()
        alive = [child for child in (self.main, *self._extras) if child is not None and child.alive]
        if not alive:
            raise self.unready()
        return min(alive, key=lambda child: child.lease is not None)

    async def _extra(self) -> Child | None:
        """One more process for calls; None when there are as many as there may be, or no other can run."""
        # Where a call was given up, no call can be asked anything any more.
        for child in [child for child in self._extras if child.haunted and not any_at_work(child)]:
            self._extras.remove(child)
            self.stop_soon(child)
        if len(self._extras) + self._coming >= MAX_EXTRAS or time.monotonic() < self._barren:
            return None
        self._coming += 1
        try:
            child = await self.introduced()
        except Failure as failure:
            say("calls go beside others: %s", failure)
            self._barren = time.monotonic() + self.limits.backoff_max_seconds
            return None
        finally:
            self._coming -= 1
        self._extras.append(child)
        return child

    def released(self, child: Child) -> None:
        """A call at a process is over; in request isolation so is the process."""
        if self.config.isolation == "request" and child is not self.main:
            self.stop_soon(child)

    # Spares.

    def refill(self) -> None:
        """Start spares up to their number."""
        if self.config.isolation != "shared" and self.state.name == "ready" and not self.closing and not self._filling:
            self._filling = True
            self.spawn(self._add_spares(), "spares")

    async def _add_spares(self) -> None:
        start: Callable[[], Coroutine[Any, Any, Child]] = (
            self.introduced if self.config.isolation == "request" else self.start
        )
        try:
            with contextlib.suppress(SpawnError, Failure):
                while len(self._spares) < self.limits.spares and not self.closing:
                    self._spares.append(await start())
        finally:
            self._filling = False

    @property
    def has_idlers(self) -> bool:
        """Whether there is anything that may be let go later."""
        return bool(self._spares or self._extras) and self.limits.spare_idle_seconds > 0

    def tick(self, now: float) -> None:
        """Let spares and extras go that nobody used for long."""
        idle = self.limits.spare_idle_seconds
        if not idle or now - self._used < idle:
            return
        for kept in (self._spares, self._extras):
            for child in [child for child in kept if not child.calls]:
                kept.remove(child)
                self.stop_soon(child)

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> None:
        """Run something that has to wait; an error that it doesn't catch is a bug, and told as one."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            told = "".join(traceback.format_exception(error))
            say("a bug in %s, please report it: %s", task.get_name(), told)

    async def close(self) -> None:
        """Stop every process in order; returns when none is left."""
        self.closing = True
        self.state.set("draining", "the shim is stopping")
        while self.children:
            await asyncio.gather(*(self.stop(child) for child in list(self.children)))
