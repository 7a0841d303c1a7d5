"""One service instance: what there is, its clock, its end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from mcpmesh.shim import malloc
from mcpmesh.shim.calls.client_call import RelayCall
from mcpmesh.shim.calls.dispatcher import Kept
from mcpmesh.shim.calls.suspended_calls import Suspended
from mcpmesh.shim.config import Config
from mcpmesh.shim.errors import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, Failure
from mcpmesh.shim.http.batch import Batch
from mcpmesh.shim.http.connection import Connection
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.http.head import Rules
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.log import say
from mcpmesh.shim.metrics import Metrics
from mcpmesh.shim.protocol.server_info import Profile
from mcpmesh.shim.router import Routes, Waiting
from mcpmesh.shim.server.guard_client import Guardian
from mcpmesh.shim.server.peer import Call
from mcpmesh.shim.server.pool import Supply
from mcpmesh.shim.server.supervisor import Keeper
from mcpmesh.shim.server_messages import Attribution
from mcpmesh.shim.sessions.initialize import Opening
from mcpmesh.shim.sessions.session import Session
from mcpmesh.shim.subscriptions.hub import Subscriptions
from mcpmesh.shim.subscriptions.listeners import RelayedListen

TICK_SECONDS: Final = 1.0
# A request of which nothing more comes for so long (seconds) is given up.
REQUEST_HEAD_SECONDS: Final = 30.0
# A burst of changes is one change (seconds).
SETTLE_SECONDS: Final = 0.5
# A session without a request or a stream for so long (seconds) makes room for a new one when there are too many.
EVICTABLE_SECONDS: Final = 60.0


class App:
    """The parts of a shim, and who knows whom."""

    def __init__(self, config: Config, guardian: Guardian) -> None:
        self.config = config
        self.limits = config.limits
        self.loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = time.monotonic
        self.rules = Rules(config.allowed_hosts, config.allowed_origins)
        self.metrics = Metrics()
        self.profile = Profile()
        self.supply = Supply(config, guardian, self.metrics, self.profile)
        self.subscriptions = Subscriptions(self)
        self.suspended = Suspended(self)
        self.kept = Kept(self)
        self.attribution = Attribution(self)
        self.supply.listener = self.attribution
        self.keeper = Keeper(self.supply, self.subscriptions)
        self.handle = Routes(self).handle
        self.sessions: dict[str, Session] = {}
        self.opening = 0
        self.connections: set[Connection] = set()
        self.incoming = 0
        """Bytes of request bodies that are not whole yet."""
        self.draining = False
        self.hurry = False
        self._suffix = f"@{config.affinity}" if config.affinity else ""
        self._ticker: asyncio.TimerHandle | None = None
        self._refresh: asyncio.TimerHandle | None = None

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> None:
        """Run something that has to wait."""
        self.supply.spawn(work, name)

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Call something after a while."""
        self.loop.call_later(seconds, what)

    # Connections.

    def connected(self, conn: Connection) -> None:
        """A client connected."""
        if len(self.connections) >= self.limits.connections:
            conn.transport.abort()
        self.connections.add(conn)
        if self._ticker is None:
            self._ticker = self.loop.call_later(TICK_SECONDS, self._tick)

    def disconnected(self, conn: Connection) -> None:
        """It is gone."""
        self.connections.discard(conn)
        self.supply.slack = True

    def rejection(self, status: int, message: str) -> bytes:
        """The body of an answer to what could not be read as a request."""
        self.metrics.status(status)
        code = PARSE_ERROR if status == 400 else INVALID_REQUEST
        return b"".join(map(bytes, codec.error_pieces(b"null", codec.error_body(code, message))))

    def _tick(self) -> None:
        """Keep-alives, deadlines, idle sessions. Runs only while there is a connection or a session."""
        now = self.now()
        for conn in list(self.connections):
            self._tick_connection(conn, now)
        self._tick_calls_left_behind(now)
        for session in list(self.sessions.values()):
            if session.busy:
                session.used = now
            elif now - session.used > self.limits.session_idle_seconds:
                self.metrics.count("sessions_idled")
                self.end_session(session)
        self.supply.tick(now)
        if self.supply.slack and all(conn.exchange is None for conn in self.connections):
            self.supply.slack = False
            malloc.give_back()
        again = self.connections or self.sessions or self.supply.has_idlers or self.supply.slack
        self._ticker = self.loop.call_later(TICK_SECONDS, self._tick) if again else None

    def _tick_calls_left_behind(self, now: float) -> None:
        """Deadlines of calls whose clients are gone and that nobody cancelled."""
        calls = [call for child in self.supply.children for call in child.calls.values() if isinstance(call, RelayCall)]
        for call in [*calls, *(call for session in self.sessions.values() for call in session.left_behind())]:
            late = not call.exchange.live and now - call.exchange.started > self.config.request_seconds
            # What waits for its client's input has a time of its own.
            if late and not self.suspended.holds(call):
                call.expired()

    def _tick_connection(self, conn: Connection, now: float) -> None:
        exchange = conn.exchange
        limits = self.limits
        if exchange is None:
            if not conn.idle and now - conn.since > REQUEST_HEAD_SECONDS:
                conn.transport.abort()
        elif exchange.owner is not None:
            if now - exchange.started > getattr(self.config, exchange.owner.patience):
                exchange.owner.expired()
            if exchange.streaming:
                if now - exchange.written >= limits.keepalive_seconds - TICK_SECONDS:
                    exchange.comment()
            elif exchange.head.accepts_sse and now - exchange.started >= limits.sse_after_seconds:
                exchange.comment()

    # Sessions.

    def new_session_id(self) -> str:
        """Unguessable; ends in the address of the instance that owns the session, where that is told."""
        return os.urandom(16).hex() + self._suffix

    def end_session(self, session: Session) -> None:
        """Close a session and let go of what it used."""
        if self.sessions.pop(session.id, None) is not None:
            session.close()

    def evict(self) -> bool:
        """Make room for a session by ending the one that was idle longest; False when none is idle."""
        idle = [session for session in self.sessions.values() if not session.busy]
        oldest = min(idle, key=lambda session: session.used, default=None)
        if oldest is None or self.now() - oldest.used < EVICTABLE_SECONDS:
            return False
        self.metrics.count("sessions_idled")
        self.end_session(oldest)
        return True

    def server_notified(self, method: str) -> None:
        """A server's tools changed: ask the kept one for them again, once for a burst."""
        if method == "notifications/tools/list_changed" and self._refresh is None:
            self._refresh = self.loop.call_later(SETTLE_SECONDS, self._ask_again)

    def _ask_again(self) -> None:
        self._refresh = None
        self.spawn(self.keeper.refresh(), "tools")

    def counts(self) -> dict[str, int]:
        """What is there just now."""
        return {
            "children": len(self.supply.children),
            "sessions": len(self.sessions),
            "in_flight": sum(1 for conn in self.connections if _is_call(conn.exchange)),
        }

    # The end.

    async def drain(self) -> int:
        """Take nothing new, let what runs finish within drain_seconds; answers how many calls were cut."""
        self.draining = True
        deadline = self.now() + self.config.drain_seconds
        self.subscriptions.close()
        for session in list(self.sessions.values()):
            session.close_streams()
        while self.counts()["in_flight"] and self.now() < deadline and not self.hurry:  # noqa: ASYNC110 (many ends, not one event)
            await asyncio.sleep(0.02)
        cut = self.counts()["in_flight"]
        self.metrics.count("cut_calls", cut)
        say("drained; %d calls were cut", cut)
        return cut

    async def close(self) -> None:
        """Fail what still runs, stop every process, close every connection."""
        for timer in (self._ticker, self._refresh):
            if timer is not None:
                timer.cancel()
        failure = Failure(
            INTERNAL_ERROR,
            "the shim stopped before the server answered; the call may have taken effect",
            {"reason": "stopped", "started": True},
        )
        for child in list(self.supply.children):
            child.fail_calls(failure)
        for conn in list(self.connections):
            if conn.exchange is None:
                conn.transport.close()
        await self.supply.close()
        for conn in list(self.connections):
            conn.transport.close()


def _is_call(exchange: Exchange | None) -> bool:
    """Whether an exchange waits for a call's answer, rather than being a stream without end."""
    if exchange is None or isinstance(exchange.owner, RelayedListen):
        return False
    return isinstance(exchange.owner, Call | Opening | Batch | Waiting)
