"""Server processes as they are needed: one kept for everybody, spares for sessions to come.

The kept one (`main`) is started at once and again whenever it ends, with a
back-off that doubles; it proves that the service works, answers modern requests,
and in shared isolation everything. Its story is the shim's state: starting,
ready, restarting, crash-loop, failed. Spares are started but not spoken to, so
that a session's own `initialize` reaches a process that is up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from mcpmesh.shim.child import Child, Listener
from mcpmesh.shim.config import Config
from mcpmesh.shim.failure import Failure, unavailable
from mcpmesh.shim.guardian import Guardian, SpawnError
from mcpmesh.shim.handshake import NotMcp, introduce, list_tools, probe
from mcpmesh.shim.log import say
from mcpmesh.shim.metrics import Metrics
from mcpmesh.shim.process import Exit, ServerProcess, Tail
from mcpmesh.shim.profile import Profile

# Up for so long (seconds), a server's next end is not counted as a failed start.
SETTLED_SECONDS: Final = 10.0


class Supply:
    """Owner of all server processes of the shim."""

    def __init__(
        self, config: Config, guardian: Guardian, metrics: Metrics, profile: Profile, listener: Callable[[], Listener]
    ) -> None:
        """`listener` makes the one who hears what a kept process says."""
        self.config = config
        self.limits = config.limits
        self.guardian = guardian
        self.metrics = metrics
        self.profile = profile
        self.listener = listener
        self.children: set[Child] = set()
        self.main: Child | None = None
        self.state = "starting"
        self.error = ""
        self.exit: Exit | None = None
        self.tail = Tail()
        self.failures = 0
        self.retry_seconds = 0.0
        self.closing = False
        self._spares: list[Child] = []
        self._changed = asyncio.Event()
        self._numbers = 0
        self._discover = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._opened = 0.0
        self._proven = 0.0
        self._probing: asyncio.Task[bool] | None = None

    # The kept process.

    async def run(self) -> None:
        """Keep `main` running until told to close."""
        while True:
            await self._live()
            if self.closing:
                return
            await asyncio.sleep(self.retry_seconds)
            if self.state == "restarting":
                self._set("starting", self.error)

    async def _live(self) -> None:
        """One life of the kept process, from its start to its end, with the state told."""
        began = asyncio.get_running_loop().time()
        try:
            child = await self.start()
        except (SpawnError, Failure) as error:
            self._down(str(error), None, None, settled=False)
            return
        try:
            await self._make_main(child)
        except (Failure, TimeoutError, NotMcp) as error:
            await self._failed_start(child, error)
            return
        self._up()
        exit = await self._watch(child)
        self.main = None
        settled = asyncio.get_running_loop().time() - began > SETTLED_SECONDS
        self._down(f"the server {exit}", exit, child.tail, settled)

    async def _make_main(self, child: Child) -> None:
        child.listener = self.listener()
        await introduce(child, self.profile, self.config.start_seconds, self._discover)
        await list_tools(child, self.profile)
        if child.process.exit is not None:
            raise child.loss(child.process.exit)
        self.main = child

    async def _failed_start(self, child: Child, error: Exception) -> None:
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
        await self.stop(child)
        self._down(sentence, exit, child.tail, settled=False)

    async def _watch(self, child: Child) -> Exit:
        """Until it ends."""
        await child.process.gone.wait()
        assert child.process.exit is not None
        return child.process.exit

    def _up(self) -> None:
        self.exit = None
        self._proven = asyncio.get_running_loop().time()
        if self.failures:
            say("the server answers again after %d failed starts", self.failures)
        self._set("ready", "")
        self._refill()

    def _down(self, sentence: str, exit: Exit | None, tail: Tail | None, settled: bool) -> None:
        if self.closing:
            return
        self.failures = 1 if settled else self.failures + 1
        self.exit = exit
        if tail is not None:
            self.tail = tail
        self.retry_seconds = min(
            self.limits.backoff_seconds * 2 ** (self.failures - 1), self.limits.backoff_max_seconds
        )
        if exit is None and tail is None:
            state = "failed"
        else:
            state = "crash-loop" if self.failures >= self.limits.crash_loop else "restarting"
        self.metrics.count("server_exits")
        if self.failures <= self.limits.crash_loop or self.failures % 10 == 0:
            say("%s; next start in %.1f s (failure %d)", sentence, self.retry_seconds, self.failures)
        self._set(state, sentence)

    def _set(self, state: str, error: str) -> None:
        self.state = state
        self.error = error
        self._changed.set()
        self._changed = asyncio.Event()

    async def ready_main(self) -> Child:
        """The kept process, waited for while it starts; raises Failure when there is none to wait for."""
        while True:
            if self.main is not None and self.main.alive:
                return self.main
            if self.closing or self.state not in ("starting", "ready"):
                raise self.unready()
            try:
                await asyncio.wait_for(self._changed.wait(), self.config.start_seconds)
            except TimeoutError:
                raise self.unready() from None

    def unready(self) -> Failure:
        """503: why no process is there."""
        return unavailable(
            f"cannot reach the server: {self.error or 'it is ' + self.state}",
            self.state,
            retry_after=max(1, round(self.retry_seconds)),
        )

    async def refresh(self, child: Child) -> None:
        """Ask for the tools again."""
        await list_tools(child, self.profile)

    async def proven(self) -> bool:
        """Whether the server answered lately, by asking it where nothing else did."""
        child = self.main
        if child is None or not child.alive:
            return False
        now = asyncio.get_running_loop().time()
        if now - max(child.last_answer, self._proven) < self.limits.probe_seconds:
            return True
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe(child), name="probe")
        return await asyncio.shield(self._probing)

    async def _probe(self, child: Child) -> bool:
        if await probe(child, self.limits.probe_timeout_seconds):
            self._proven = asyncio.get_running_loop().time()
            return True
        if child.calls:
            # Some servers answer nothing else while they work; the call has its own deadline.
            return child.alive
        if child.alive:
            say("the server did not answer a probe within %g s and is started anew", self.limits.probe_timeout_seconds)
            child.process.kill()
        return False

    # Any process.

    async def start(self) -> Child:
        """A new process, not spoken to yet; raises SpawnError, or Failure when there are too many."""
        if len(self.children) >= self.limits.children:
            raise unavailable(
                f"cannot start another server: {len(self.children)} run already (limits.children)", "full"
            )
        if self.guardian.pid == 0:
            self.guardian.launch()
        self._numbers += 1
        holder: list[Child] = []
        process = ServerProcess(
            self.guardian,
            self.limits.line_bytes,
            lambda head, tail, size: holder[0].oversize(head, tail, size),
            Tail(),
        )
        child = Child(process, self.limits, self.metrics, self._numbers)
        holder.append(child)
        self.children.add(child)
        self.metrics.count("server_starts")
        try:
            await process.start()
        except BaseException:
            self.children.discard(child)
            raise
        self._spawn(self._discard_when_gone(child), "child")
        return child

    async def _discard_when_gone(self, child: Child) -> None:
        await child.process.gone.wait()
        self.children.discard(child)
        if child in self._spares:
            self._spares.remove(child)

    async def take(self) -> Child:
        """A process for one owner: a spare where there is one."""
        self._opened = asyncio.get_running_loop().time()
        while self._spares:
            child = self._spares.pop(0)
            if child.alive:
                self._refill()
                return child
        if self.state in ("crash-loop", "failed"):
            raise self.unready()
        try:
            child = await self.start()
        except SpawnError as error:
            raise unavailable(str(error), "failed") from None
        self._refill()
        return child

    async def stop(self, child: Child) -> None:
        """Stop a process in order."""
        await child.stop()
        self.children.discard(child)

    def stop_soon(self, child: Child) -> None:
        """Stop a process in order, without waiting for it."""
        child.stopping = True
        self._spawn(self.stop(child), "stop")

    def _refill(self) -> None:
        """Start spares up to their number, where sessions have their own process."""
        if self.config.isolation == "session" and self.state == "ready" and not self.closing:
            self._spawn(self._add_spares(), "spares")

    async def _add_spares(self) -> None:
        while len(self._spares) < self.limits.spares and not self.closing and len(self.children) < self.limits.children:
            with contextlib.suppress(SpawnError, Failure):
                self._spares.append(await self.start())
                continue
            return

    def tick(self, now: float) -> None:
        """Let spares go that nobody used for long."""
        idle = self.limits.spare_idle_seconds
        if self._spares and idle and now - max(self._opened, self._proven) > idle:
            spares, self._spares = self._spares, []
            for child in spares:
                self.stop_soon(child)

    def _spawn(self, work: object, name: str) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop every process in order; returns when none is left."""
        self.closing = True
        self._set("draining", "the shim is stopping")
        await asyncio.gather(*(child.stop() for child in list(self.children)))
        self.children.clear()
