"""What multiplexed calls share: the context, the pool, suspended calls, and the history of server requests."""

from __future__ import annotations

from mcpmesh.shim.calls.server_request_history import ServerRequestHistory
from mcpmesh.shim.calls.suspended_calls import SuspendedCalls
from mcpmesh.shim.context import Context
from mcpmesh.shim.protocol.server_info import ServerInfo
from mcpmesh.shim.server.pool import Pool


class CallContext:
    """One for each shim."""

    __slots__ = ("context", "history", "pool", "server_info", "suspended")

    def __init__(self, context: Context, pool: Pool, server_info: ServerInfo) -> None:
        self.context = context
        self.pool = pool
        self.server_info = server_info
        self.suspended = SuspendedCalls(context)
        self.history = ServerRequestHistory()
