"""The pool of server processes: one main process, spares, and extras, as the isolation demands.

The main process is started at once, and again whenever it exits (the
supervisor does that). It proves that the service works, answers modern
requests, and in shared isolation everything. Spares wait for the next session
(isolation session: started but not initialized, since the session's own
`initialize` goes to it) or the next call (isolation request: initialized, used
for one call, stopped). Extras take calls that need a process without others
(isolation session).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from mcpmesh.shim.context import Context
from mcpmesh.shim.errors import Failure, unavailable
from mcpmesh.shim.log import log
from mcpmesh.shim.protocol.server_info import ServerInfo
from mcpmesh.shim.server.channel import Channel
from mcpmesh.shim.server.guard_client import SpawnError
from mcpmesh.shim.server.handshake import NotMcp, SpokeBothEras, handshake
from mcpmesh.shim.server.lifecycle import Lifecycle
from mcpmesh.shim.server.peer import Peer, PeerListener
from mcpmesh.shim.server.placement import Placement

# Besides the main process no more extras are kept than this.
MAX_EXTRAS: Final = 8


class Pool:
    """Owns all server processes of the shim."""

    def __init__(
        self,
        context: Context,
        open_channel: Callable[[], Channel],
        server_info: ServerInfo,
        lifecycle: Lifecycle,
    ) -> None:
        """`open_channel` prepares a server that is not started yet; it raises SpawnError or OSError."""
        self.context = context
        self.config = context.config
        self.limits = context.limits
        self.server_info = server_info
        self.lifecycle = lifecycle
        self.listener: PeerListener | None = None
        """Receives what the servers for many callers send on their own account."""
        self.peers: set[Peer] = set()
        self.main: Peer | None = None
        self.closing = False
        self._open_channel = open_channel
        self._spares: list[Peer] = []
        self._extras: list[Peer] = []
        self._extras_starting = 0
        self._no_extra_until = 0.0
        """The last extra could not be started: until this time none is tried."""
        self._extra_lock = asyncio.Lock()
        self._refilling = False
        self._last_number = 0
        self._last_use = context.now()

    # Any process.

    async def start(self) -> Peer:
        """Start a process without initializing it; raises SpawnError, or Failure if there are too many or no means."""
        if self.closing:
            raise unavailable("cannot start a server: the shim is stopping", "draining")
        if sum(not peer.stopping for peer in self.peers) >= self.limits.children:
            raise unavailable(f"cannot start another server: {len(self.peers)} run already (limits.children)", "full")
        try:
            channel = self._open_channel()
        except OSError as error:
            raise _no_means(error) from None
        self._last_number += 1
        peer = Peer(channel, self.context, self._last_number)
        self.peers.add(peer)
        self.context.metrics.count("server_starts")
        try:
            await channel.start()
        except BaseException as error:
            # It never ran, so it will not exit either.
            self.peers.discard(peer)
            if isinstance(error, OSError):
                raise _no_means(error) from None
            raise
        self.context.spawn(self._discard_after_exit(peer), "child")
        return peer

    async def _discard_after_exit(self, peer: Peer) -> None:
        await peer.channel.exited.wait()
        self.peers.discard(peer)
        self.context.memory_freed = True
        for reserve in (self._spares, self._extras):
            if peer in reserve:
                reserve.remove(peer)
                self.context.metrics.count("server_exits")

    async def start_initialized(self) -> Peer:
        """Start and initialize a process for calls of many callers; raises Failure."""
        try:
            peer = await self.start()
        except SpawnError as error:
            raise unavailable(str(error), "failed") from None
        peer.listener = self.listener
        try:
            await handshake(peer, self.server_info, self.config.start_seconds)
        except (Failure, TimeoutError, NotMcp, SpokeBothEras) as error:
            exit = peer.channel.exit
            self.stop_soon(peer)
            if exit is not None:
                reason = f"it {exit} before it spoke MCP"
            elif isinstance(error, TimeoutError):
                reason = f"it did not begin to speak MCP within {self.config.start_seconds:g} s"
            else:
                reason = "it is being stopped" if isinstance(error, Failure) else f"it {error}"
            raise unavailable(f"cannot start another server: {reason}", "failed") from None
        return peer

    async def stop(self, peer: Peer) -> None:
        """Stop a process in order."""
        await peer.stop()
        self.peers.discard(peer)

    def stop_soon(self, peer: Peer) -> None:
        """Stop a process in order, without waiting for it."""
        if not peer.stopping:
            peer.stopping = True
            self.context.spawn(self.stop(peer), "stop")

    async def wait_for_main(self) -> Peer:
        """The main process, waited for while it starts; raises Failure when it is not about to come."""
        while self.main is None or not self.main.alive:
            if self.closing or self.lifecycle.state not in ("starting", "ready"):
                raise self.lifecycle.unready()
            if not await self.lifecycle.wait_for_change(self.config.start_seconds):
                raise self.lifecycle.unready()
        return self.main

    async def close(self) -> None:
        """Stop every process in order; returns when none is left."""
        self.closing = True
        self.lifecycle.set("draining", "the shim is stopping")
        while self.peers:
            await asyncio.gather(*(self.stop(peer) for peer in list(self.peers)))

    # One process for one owner.

    def take_spare(self) -> Peer | None:
        """A spare, if there is one; another is started in its place."""
        self._last_use = self.context.now()
        while self._spares:
            peer = self._spares.pop(0)
            if peer.alive:
                self.refill_spares()
                return peer
        return None

    async def take(self) -> Peer:
        """A process for one owner, not initialized; started if there is no spare. Raises Failure."""
        peer = self.take_spare()
        if peer is not None:
            return peer
        if self.lifecycle.state in ("crash-loop", "failed"):
            raise self.lifecycle.unready()
        try:
            peer = await self.start()
        except SpawnError as error:
            raise unavailable(str(error), "failed") from None
        self.refill_spares()
        return peer

    # Processes for calls of many callers.

    def choose(self, placement: Placement) -> Peer | None:
        """A process that can take a call now; None if the call has to wait for one."""
        if self.config.isolation == "request":
            return self.take_spare()
        main = self.main
        if main is None or not main.alive:
            return None
        if self.config.isolation == "shared":
            return main
        # An exclusive call leaves the main process to the others.
        for peer in self._extras if placement is Placement.EXCLUSIVE else (main, *self._extras):
            if peer.alive and placement.fits(peer):
                if peer is not main:
                    self._last_use = self.context.now()
                return peer
        if placement is Placement.SHARED:
            # Its client can't be asked anyway, so the call does not wait; the extra is for the calls after it.
            if not self._extras_starting:
                self.context.spawn(self._add_extra(), "one more process")
            return main
        return None

    async def obtain(self, placement: Placement) -> Peer:
        """As choose, but waits for a process or starts one; raises Failure."""
        await self.wait_for_main()
        peer = self.choose(placement)
        if peer is not None:
            return peer
        if self.config.isolation == "request":
            peer = await self.start_initialized()
            self.refill_spares()
            return peer
        if placement is Placement.EXCLUSIVE:
            peer = await self._add_extra()
        else:
            # All waiting calls can run in the process that the first of them starts.
            async with self._extra_lock:
                peer = self.choose(placement) or await self._add_extra()
        if peer is not None:
            return peer
        # Beside other calls the server can't ask the client, but it can answer.
        await self.wait_for_main()
        alive = [peer for peer in (self.main, *self._extras) if peer is not None and peer.alive]
        if not alive:
            raise self.lifecycle.unready()
        return min(alive, key=lambda peer: peer.lease is not None)

    async def _add_extra(self) -> Peer | None:
        """Start one more process for calls; None at the bound, or when it can't be started."""
        # A call that was given up there keeps new calls from being asked, so an idle one is replaced.
        for peer in [peer for peer in self._extras if peer.has_abandoned_calls and not peer.works_for_clients]:
            self._extras.remove(peer)
            self.stop_soon(peer)
        if len(self._extras) + self._extras_starting >= MAX_EXTRAS or self.context.now() < self._no_extra_until:
            return None
        self._extras_starting += 1
        try:
            peer = await self.start_initialized()
        except Failure as failure:
            log("calls share a process: %s", failure)
            self._no_extra_until = self.context.now() + self.limits.backoff_max_seconds
            return None
        finally:
            self._extras_starting -= 1
        self._extras.append(peer)
        return peer

    def release(self, peer: Peer) -> None:
        """A call at a process ended; in request isolation the process is stopped."""
        if self.config.isolation == "request" and peer is not self.main:
            self.stop_soon(peer)

    # Spares and idle processes.

    def refill_spares(self) -> None:
        """Start spares up to their number, in the background."""
        wanted = self.config.isolation != "shared" and self.lifecycle.state == "ready"
        if wanted and not self.closing and not self._refilling:
            self._refilling = True
            self.context.spawn(self._add_spares(), "spares")

    async def _add_spares(self) -> None:
        start: Callable[[], Coroutine[Any, Any, Peer]] = (
            self.start_initialized if self.config.isolation == "request" else self.start
        )
        try:
            with contextlib.suppress(SpawnError, Failure):
                while len(self._spares) < self.limits.spares and not self.closing:
                    self._spares.append(await start())
        finally:
            self._refilling = False

    @property
    def has_idle_candidates(self) -> bool:
        """Whether there is a process that stop_idle may stop later."""
        return bool(self._spares or self._extras) and self.limits.spare_idle_seconds > 0

    def stop_idle(self, now: float) -> None:
        """Stop spares and extras when none was used for spare_idle_seconds."""
        idle_seconds = self.limits.spare_idle_seconds
        if not idle_seconds or now - self._last_use < idle_seconds:
            return
        for reserve in (self._spares, self._extras):
            for peer in [peer for peer in reserve if not peer.calls]:
                reserve.remove(peer)
                self.stop_soon(peer)


def _no_means(error: OSError) -> Failure:
    return unavailable(f"cannot start a server: {error.strerror}", "full")
