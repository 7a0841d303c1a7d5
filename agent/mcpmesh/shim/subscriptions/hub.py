"""Passes the main server's change notifications on to every client that subscribed to them.

A legacy server sends changes of lists unasked and changes of a resource after
`resources/subscribe`. A modern server sends both within `subscriptions/listen`;
the shim keeps one listen open for its legacy sessions and its own tool list.
Modern clients' listens at a modern server are relayed one to one, with both the
request id and the subscription id replaced
(2026-07-28/basic/patterns/subscriptions.mdx).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final, Protocol

from mcpmesh.shim.calls.call_context import CallContext
from mcpmesh.shim.calls.client_call import needs_rewrite, rewrite
from mcpmesh.shim.errors import INVALID_PARAMS, Failure
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.http.request_head import Head
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.protocol.modern_request import LOG_LEVELS, RequestMeta, invalid_params
from mcpmesh.shim.server.handshake import shim_meta
from mcpmesh.shim.server.peer import Peer
from mcpmesh.shim.server.tool_list import ToolListRefresher
from mcpmesh.shim.subscriptions.listeners import (
    CANCELLED,
    LISTS,
    UPDATED,
    EmulatedListen,
    RelayedListen,
    ShimListen,
    subscription_of,
)

REQUEST_SECONDS: Final = 30.0
# When a modern server ended the shim's listen, the shim sends another one after this time (seconds).
RETRY_SECONDS: Final = 5.0


class Subscriber(Protocol):
    """A legacy session on a shared server, as the hub sees it."""

    log_level: str | None

    def send(self, message: bytes) -> None:
        """Send a notification to the client."""

    def answer(self, exchange: Exchange, message: Any, error: codec.Buffer = b"") -> None:
        """Answer a request of the client, with an empty result if there is no error."""


class SubscriptionHub:
    """Knows which client subscribed to what, and keeps the main server subscribed to all of it."""

    def __init__(self, call_context: CallContext, tool_list: ToolListRefresher) -> None:
        self.call_context = call_context
        self.context = call_context.context
        self.pool = call_context.pool
        self.server_info = call_context.server_info
        self.tool_list = tool_list
        self.emulated: set[EmulatedListen] = set()
        self.subscribers: dict[Subscriber, set[str]] = {}
        """Legacy sessions, each with the URIs that it subscribed to."""
        self.shim_listen: ShimListen | None = None
        self._subscribed: set[str] = set()
        """The URIs that the main server is subscribed to."""
        self._sync_lock = asyncio.Lock()
        self._listen_refused = False
        self._retry_timer: asyncio.TimerHandle | None = None

    # Modern clients.

    def listen(self, exchange: Exchange, head: Head, message: Any, meta: RequestMeta, peer: Peer) -> None:
        """A modern client's subscriptions/listen; raises Failure."""
        id = codec.id_json(message.id)
        if peer.modern:
            call = RelayedListen(self.call_context, exchange, id, message.method)
            call.peer = peer
            call.log_level = meta.log_level or None
            peer.register(call)
            params = message.params
            if needs_rewrite(head, params):
                params = rewrite(call, params, head)
            peer.channel.write(codec.request(call.id, message.method, params))
            return
        whole, _ = translation.split_meta(message.params)
        wanted = codec.decode(whole.get("notifications", b"null"))
        if not isinstance(wanted, dict):
            raise invalid_params("params.notifications must be an object")
        listen = EmulatedListen(self.context, exchange, id, self._supported(wanted), self._client_gone)
        self.emulated.add(listen)
        self.context.spawn(self._acknowledge(listen), "acknowledge")

    def _supported(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """The part of a filter that a legacy server can serve."""
        capabilities = self.server_info.capabilities
        supported: dict[str, Any] = {}
        for member, capability in LISTS.values():
            if wanted.get(member) is True and (capabilities.get(capability) or {}).get("listChanged"):
                supported[member] = True
        uris = wanted.get("resourceSubscriptions")
        if isinstance(uris, list) and (capabilities.get("resources") or {}).get("subscribe"):
            supported["resourceSubscriptions"] = [uri for uri in uris if isinstance(uri, str)]
        return supported

    async def _acknowledge(self, listen: EmulatedListen) -> None:
        if listen.filter.get("resourceSubscriptions"):
            await self._synchronize()
        if listen.exchange.live:
            listen.acknowledge()

    def _client_gone(self, listen: EmulatedListen) -> None:
        self.emulated.discard(listen)
        self.context.spawn(self._synchronize(), "unsubscribe")

    # Legacy sessions on shared servers.

    def add_subscriber(self, session: Subscriber) -> None:
        """The session's client is initialized and may get notifications."""
        self.subscribers.setdefault(session, set())
        main = self.pool.main
        # It has no URIs yet, so only a modern server without a listen has to be told.
        if main is not None and main.modern and self.shim_listen is None:
            self.context.spawn(self._synchronize(), "subscribe")

    def remove_subscriber(self, session: Subscriber) -> None:
        """The session ended."""
        if self.subscribers.pop(session, None):
            self.context.spawn(self._synchronize(), "unsubscribe")

    def resource_request(self, session: Subscriber, exchange: Exchange, message: Any) -> None:
        """A session's resources/subscribe or resources/unsubscribe; raises Failure."""
        whole, _ = translation.split_meta(message.params)
        uri = codec.decode(whole.get("uri", b"null"))
        if not isinstance(uri, str):
            raise Failure(INVALID_PARAMS, "params.uri is missing")
        uris = self.subscribers.setdefault(session, set())
        if message.method == "resources/subscribe":
            uris.add(uri)
        else:
            uris.discard(uri)
        self.context.spawn(self._answer_resource_request(session, exchange, message, uri), "subscribe")

    async def _answer_resource_request(self, session: Subscriber, exchange: Exchange, message: Any, uri: str) -> None:
        refused = await self._synchronize()
        uris = self.subscribers.get(session, set())
        if uri in refused and uri in uris:
            uris.discard(uri)
            session.answer(exchange, message, refused[uri])
        else:
            session.answer(exchange, message)

    async def update_log_level(self, peer: Peer) -> None:
        """Set a legacy server's log level to the lowest that a session wants; each session gets its own level only."""
        wanted = [session.log_level for session in self.subscribers if session.log_level is not None]
        if wanted:
            with contextlib.suppress(Failure, TimeoutError):
                level = min(wanted, key=LOG_LEVELS.index)
                await peer.ask("logging/setLevel", {"level": level}, REQUEST_SECONDS)

    # The main server.

    async def _synchronize(self) -> dict[str, codec.Buffer]:
        """Subscribe the main server to what clients want now; returns the URIs that it refused, with its errors."""
        async with self._sync_lock:
            main = self.pool.main
            return await self._synchronize_with(main) if main is not None and main.alive else {}

    async def _synchronize_with(self, main: Peer) -> dict[str, codec.Buffer]:
        wanted: set[str] = set().union(
            *self.subscribers.values(),
            *(listen.filter.get("resourceSubscriptions", ()) for listen in self.emulated),
        )
        if main.modern:
            self._renew_listen(main, wanted)
            return {}
        refused: dict[str, codec.Buffer] = {}
        changes = [(uri, "resources/subscribe") for uri in wanted - self._subscribed]
        changes += [(uri, "resources/unsubscribe") for uri in self._subscribed - wanted]
        self._subscribed = set(wanted)

        async def change(uri: str, method: str) -> None:
            with contextlib.suppress(Failure, TimeoutError):
                answer = await main.ask(method, {"uri": uri}, REQUEST_SECONDS)
                if answer.error and method == "resources/subscribe":
                    self._subscribed.discard(uri)
                    refused[uri] = answer.error

        await asyncio.gather(*(change(uri, method) for uri, method in changes))
        return refused

    def _renew_listen(self, main: Peer, uris: set[str]) -> None:
        if (self.shim_listen is not None or self._listen_refused) and uris == self._subscribed:
            return
        capabilities = self.server_info.capabilities
        wanted: dict[str, Any] = {
            member: True
            for member, capability in LISTS.values()
            if (capabilities.get(capability) or {}).get("listChanged")
        }
        if uris:
            wanted["resourceSubscriptions"] = sorted(uris)
        if not wanted:
            return
        previous, self.shim_listen = self.shim_listen, ShimListen(self)
        self._subscribed = set(uris)
        self._listen_refused = False
        try:
            params = {"_meta": shim_meta(), "notifications": wanted}
            main.send(self.shim_listen, "subscriptions/listen", codec.encode(params))
        except Failure:
            self.listen_ended(self.shim_listen)
        if previous is not None:
            main.cancel(previous, "replaced")
            main.settle(previous.id)

    def listen_ended(self, listen: ShimListen) -> None:
        """The shim's listen ended; while the server runs, another one is sent after RETRY_SECONDS."""
        if self.shim_listen is listen:
            self.shim_listen = None
            if self._retry_timer is None:
                self._retry_timer = self.context.later(RETRY_SECONDS, self._retry_listen)

    def listen_refused(self, listen: ShimListen) -> None:
        """The server has no subscriptions: the next try is for another process, or when other URIs are wanted."""
        if self.shim_listen is listen:
            self.shim_listen = None
            self._listen_refused = True

    def _retry_listen(self) -> None:
        self._retry_timer = None
        main = self.pool.main
        if self.shim_listen is None and main is not None and main.modern and not self.context.draining:
            self.context.spawn(self._synchronize(), "subscribe")

    def main_started(self) -> None:
        """There is a new main process: subscribe it to what clients want."""
        self._subscribed = set()
        self.shim_listen = None
        self._listen_refused = False
        self.context.spawn(self._synchronize(), "subscribe")

    def server_notification(self, peer: Peer, message: Any) -> bool:
        """A notification of a shared server; returns False when no client gets it."""
        if peer.modern:
            call = peer.calls.get(subscription_of(message) or 0)
            if not isinstance(call, RelayedListen | ShimListen):
                return False
            if message.method == CANCELLED:
                # A server sends this only to end a subscription.
                peer.forget(call)
                call.end()
            else:
                call.notification(message)
            return True
        return self.publish(message.method, message.params)

    def publish(self, method: str, params: codec.Buffer) -> bool:
        """Send a change to all who subscribed to it; returns False when the notification is no change."""
        if method in LISTS:
            self.tool_list.notification(method)
            uri = None
        elif method == UPDATED:
            whole, _ = translation.split_meta(params)
            uri = codec.decode(whole.get("uri", b"null"))
            if not isinstance(uri, str):
                return False
        else:
            return False
        for listen in list(self.emulated):
            listen.deliver(method, params, uri)
        for session, uris in list(self.subscribers.items()):
            if uri is None or uri in uris:
                session.send(codec.notification(method, params))
        return True

    def server_exited(self, peer: Peer) -> None:
        """A shared process exited: modern clients subscribe again, sessions are continued by the next process."""
        if peer is self.pool.main or self.pool.main is None:
            self.end_streams()
            self._subscribed = set()
            self.shim_listen = None

    def end_streams(self) -> None:
        """End the modern clients' streams gracefully."""
        emulated, self.emulated = self.emulated, set()
        listens: list[EmulatedListen | RelayedListen] = [*emulated]
        if (main := self.pool.main) is not None:
            listens += [call for call in main.calls.values() if isinstance(call, RelayedListen)]
        for listen in listens:
            if listen.exchange.live:
                listen.end()
