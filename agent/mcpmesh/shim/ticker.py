"""The tick: keep-alives, deadlines, idle sessions and processes, and freed memory; once a second while needed."""

from __future__ import annotations

import asyncio
from typing import Final

from mcpmesh.shim import malloc
from mcpmesh.shim.calls.client_call import ClientCall
from mcpmesh.shim.calls.suspended_calls import SuspendedCalls
from mcpmesh.shim.context import Context
from mcpmesh.shim.http.connection_set import ClientConnection, Connections
from mcpmesh.shim.server.pool import Pool
from mcpmesh.shim.sessions.registry import SessionRegistry

TICK_SECONDS: Final = 1.0
# An incomplete request of which nothing more arrives for this long (seconds) is dropped.
REQUEST_HEAD_SECONDS: Final = 30.0


class Ticker:
    """Runs only while there is a connection, a session, or a process or memory to release."""

    def __init__(
        self,
        context: Context,
        connections: Connections,
        registry: SessionRegistry,
        pool: Pool,
        suspended: SuspendedCalls,
    ) -> None:
        self.context = context
        self.config = context.config
        self.limits = context.limits
        self.connections = connections
        self.registry = registry
        self.pool = pool
        self.suspended = suspended
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Tick until there is nothing left to watch; harmless if it ticks already."""
        if self._timer is None:
            self._timer = self.context.later(TICK_SECONDS, self._tick)

    def close(self) -> None:
        """Stop ticking."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        now = self.context.now()
        for connection in list(self.connections.open):
            self._check_connection(connection, now)
        self._expire_detached_calls(now)
        self.registry.end_idle(now)
        self.pool.stop_idle(now)
        self._trim_memory()
        again = (
            self.connections.open
            or self.registry.sessions
            or self.pool.has_idle_candidates
            or self.context.memory_freed
        )
        self._timer = self.context.later(TICK_SECONDS, self._tick) if again else None

    def _check_connection(self, connection: ClientConnection, now: float) -> None:
        exchange = connection.exchange
        limits = self.limits
        if exchange is None:
            if not connection.idle and now - connection.waiting_since > REQUEST_HEAD_SECONDS:
                connection.abort()
        elif exchange.responder is not None:
            if now - exchange.started > getattr(self.config, exchange.responder.timeout_setting):
                exchange.responder.expired()
            if exchange.streaming:
                if now - exchange.last_write >= limits.keepalive_seconds - TICK_SECONDS:
                    exchange.comment()
            elif exchange.head.accepts_sse and now - exchange.started >= limits.sse_after_seconds:
                exchange.comment()

    def _expire_detached_calls(self, now: float) -> None:
        """Expire calls whose clients are gone without a cancel."""
        calls = [call for peer in self.pool.peers for call in peer.calls.values() if isinstance(call, ClientCall)]
        for session in self.registry.sessions.values():
            calls += session.detached_calls()
        for call in calls:
            late = not call.exchange.live and now - call.exchange.started > self.config.request_seconds
            # A call that waits for its client's input has a deadline of its own.
            if late and not self.suspended.holds(call):
                call.expired()

    def _trim_memory(self) -> None:
        if self.context.memory_freed and all(connection.exchange is None for connection in self.connections.open):
            self.context.memory_freed = False
            malloc.trim()
