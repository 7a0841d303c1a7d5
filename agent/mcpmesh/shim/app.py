"""Puts the parts of a shim together, and takes them down again: drain, then close."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mcpmesh.shim.calls.call_context import CallContext
from mcpmesh.shim.calls.dispatcher import Dispatcher
from mcpmesh.shim.context import Context
from mcpmesh.shim.endpoints import Endpoints, Usage
from mcpmesh.shim.errors import answer_lost
from mcpmesh.shim.http.connection import Connection
from mcpmesh.shim.http.connection_set import Connections
from mcpmesh.shim.log import log
from mcpmesh.shim.protocol.server_info import ServerInfo
from mcpmesh.shim.router import Router
from mcpmesh.shim.server.channel import Channel
from mcpmesh.shim.server.lifecycle import Lifecycle
from mcpmesh.shim.server.pool import Pool
from mcpmesh.shim.server.supervisor import Supervisor
from mcpmesh.shim.server.tool_list import ToolListRefresher
from mcpmesh.shim.server_messages import ServerMessages
from mcpmesh.shim.sessions.initialize import SessionOpener
from mcpmesh.shim.sessions.registry import SessionRegistry
from mcpmesh.shim.subscriptions.hub import SubscriptionHub
from mcpmesh.shim.ticker import Ticker


class App:
    """One shim. It hands each part what that part uses; nothing else knows the whole."""

    def __init__(self, context: Context, server_info: ServerInfo, open_channel: Callable[[], Channel]) -> None:
        """`open_channel` prepares a server that is not started yet."""
        self.context = context
        self.lifecycle = Lifecycle(context.limits)
        self.pool = Pool(context, open_channel, server_info, self.lifecycle)
        tool_list = ToolListRefresher(context, self.pool, server_info)
        call_context = CallContext(context, self.pool, server_info)
        dispatcher = Dispatcher(call_context)
        self.hub = SubscriptionHub(call_context, tool_list)
        self.pool.listener = ServerMessages(call_context, self.hub, tool_list)
        self.supervisor = Supervisor(context, self.pool, self.lifecycle, server_info, self.hub.main_started)
        self.registry = SessionRegistry(context)
        opener = SessionOpener(self.registry, dispatcher, self.hub, tool_list)
        endpoints = Endpoints(context, self.lifecycle, self.supervisor, server_info, self.usage)
        router = Router(dispatcher, self.hub, self.registry, opener, endpoints)
        self.connections = Connections(context, router.handle)
        self.suspended = call_context.suspended
        self.tool_list = tool_list
        self.ticker = Ticker(context, self.connections, self.registry, self.pool, self.suspended)
        self.connections.on_opened = self.ticker.start
        self.cut_drain = False
        """Set to end a drain at once."""

    def accept(self) -> Connection:
        """The protocol for a new client connection."""
        return Connection(self.connections)

    def usage(self) -> Usage:
        """What exists at this moment."""
        return Usage(
            children=len(self.pool.peers),
            sessions=len(self.registry.sessions),
            in_flight=self.connections.in_flight,
            connections=len(self.connections.open),
            incoming_bytes=self.connections.incoming_bytes,
            suspended=len(self.suspended),
        )

    async def drain(self) -> int:
        """Take no new calls, and let running ones end within drain_seconds; returns how many were cut."""
        context = self.context
        context.draining = True
        deadline = context.now() + context.config.drain_seconds
        self.hub.end_streams()
        for session in list(self.registry.sessions.values()):
            session.close_streams()
        while self.connections.in_flight and context.now() < deadline and not self.cut_drain:  # noqa: ASYNC110 (many ends, not one event)
            await asyncio.sleep(0.02)
        cut = self.connections.in_flight
        context.metrics.count("cut_calls", cut)
        log("drained; %d calls were cut", cut)
        return cut

    async def close(self) -> None:
        """Fail what still runs, stop every process, close every connection."""
        self.ticker.close()
        self.tool_list.close()
        failure = answer_lost("the shim stopped before the server answered; the call may have taken effect", "stopped")
        for peer in list(self.pool.peers):
            peer.fail_calls(failure)
        for connection in list(self.connections.open):
            if connection.exchange is None:
                connection.close()
        await self.pool.close()
        for connection in list(self.connections.open):
            connection.close()
