"""All legacy sessions of a shim: their ids, their number, and which of them makes room for a new one."""

from __future__ import annotations

import os
from typing import Final

from mcpmesh.shim.context import Context
from mcpmesh.shim.errors import unavailable
from mcpmesh.shim.sessions.session import Session

# When there are too many sessions, one that was not used for this long (seconds) makes room for a new one.
EVICTABLE_SECONDS: Final = 60.0


class SessionRegistry:
    """The open sessions by id, and the number of those that are being opened."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.sessions: dict[str, Session] = {}
        self.opening = 0
        self._suffix = f"@{context.config.affinity}" if context.config.affinity else ""

    def new_id(self) -> str:
        """An unguessable id. It ends in the address of this instance, if that is configured."""
        return os.urandom(16).hex() + self._suffix

    def check_room(self) -> None:
        """Make room for one more session; raises Failure when all sessions are in use."""
        limit = self.context.limits.sessions
        if len(self.sessions) + self.opening >= limit and not self.evict():
            raise unavailable(f"cannot open a session: {limit} are open (limits.sessions)", "full", 5)

    def add(self, session: Session) -> None:
        """A session is open."""
        self.sessions[session.id] = session
        self.context.metrics.count("sessions_opened")

    def end(self, session: Session) -> None:
        """Close a session; one that has ended already is left alone."""
        if self.sessions.pop(session.id, None) is not None:
            session.close()

    def evict(self) -> bool:
        """End the session that was not used for longest; returns False when each was used lately."""
        unused = [session for session in self.sessions.values() if not session.busy]
        oldest = min(unused, key=lambda session: session.last_used, default=None)
        if oldest is None or self.context.now() - oldest.last_used < EVICTABLE_SECONDS:
            return False
        self.context.metrics.count("sessions_idled")
        self.end(oldest)
        return True

    def end_idle(self, now: float) -> None:
        """End each session that was not used for session_idle_seconds."""
        for session in list(self.sessions.values()):
            if session.busy:
                session.last_used = now
            elif now - session.last_used > self.context.limits.session_idle_seconds:
                self.context.metrics.count("sessions_idled")
                self.end(session)
