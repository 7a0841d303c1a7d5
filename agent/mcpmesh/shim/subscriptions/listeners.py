"""The kinds of `subscriptions/listen`: a client's at a server of either era, and the shim's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from mcpmesh.shim.calls.call_context import CallContext
from mcpmesh.shim.calls.multiplexed_call import ModernCall
from mcpmesh.shim.context import Context
from mcpmesh.shim.errors import Failure
from mcpmesh.shim.http.exchange import Exchange, Responder
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.protocol.meta_keys import SUBSCRIPTION_KEY
from mcpmesh.shim.server.peer import PendingRequest

LISTS: Final = {
    "notifications/tools/list_changed": ("toolsListChanged", "tools"),
    "notifications/prompts/list_changed": ("promptsListChanged", "prompts"),
    "notifications/resources/list_changed": ("resourcesListChanged", "resources"),
}
"""Each notification of a changed list: its member in a listen's filter, and the capability that it needs."""
UPDATED: Final = "notifications/resources/updated"
CANCELLED: Final = "notifications/cancelled"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"


def with_subscription_id(method: str, params: codec.Buffer, id: bytes) -> bytes:
    """A notification with the id of the subscription that it belongs to."""
    whole, meta = translation.split_meta(params)
    meta[SUBSCRIPTION_KEY] = codec.Raw(id)
    return codec.notification(method, codec.encode({**whole, "_meta": meta}))


def end_result(id: bytes) -> bytes:
    """The result that ends a subscription gracefully (2026-07-28/basic/patterns/subscriptions.mdx)."""
    return codec.encode({"resultType": "complete", "_meta": {SUBSCRIPTION_KEY: codec.Raw(id)}})


def subscription_of(message: Any) -> int | None:
    """The shim's id of the subscription that a modern server's notification names, if it names one."""
    whole, meta = translation.split_meta(message.params)
    with contextlib.suppress(codec.Malformed):
        named = whole.get("requestId") if message.method == CANCELLED else meta.get(SUBSCRIPTION_KEY)
        id = codec.decode(named or b"null")
        return id if type(id) is int else None
    return None


class RelayedListen(ModernCall):
    """A modern client's listen at a modern server."""

    __slots__ = ("acknowledged",)
    is_call = False

    def __init__(self, call_context: CallContext, exchange: Exchange, client_id: bytes, method: str) -> None:
        super().__init__(call_context, exchange, client_id, method)
        self.acknowledged = False

    @property
    def works_for_client(self) -> bool:
        return False

    def notification(self, message: Any) -> None:
        """A notification of this subscription."""
        self.acknowledged = True
        if self.exchange.live:
            self.exchange.event([with_subscription_id(message.method, message.params, self.client_id)])

    def answered(self, message: Any) -> None:
        if message.error and self.acknowledged:
            # The connection to a remote server broke.
            self.end()
            return
        if message.result:
            whole, meta = translation.split_meta(message.result)
            meta[SUBSCRIPTION_KEY] = codec.Raw(self.client_id)
            message.result = codec.Raw(codec.encode({**whole, "_meta": meta}))
        super().answered(message)

    def failed(self, _failure: Failure) -> None:
        """The server has exited. This is a graceful end: no call was cut that could have taken effect."""
        self.end()

    def end(self) -> None:
        """End the subscription gracefully: the server exited or ended it, or the shim stops."""
        self.cancel("the subscription is over")
        self.count("ok")
        self.deliver(200, codec.result_pieces(self.client_id, end_result(self.client_id)))

    def expired(self) -> None:
        """A subscription has no deadline."""

    def cancel(self, reason: str) -> None:
        super().cancel(reason)
        if self.peer is not None:
            # The server does no work for it that could lead to server requests.
            self.peer.settle(self.id)


class ListenOwner(Protocol):
    """Gets what a ShimListen receives."""

    def publish(self, method: str, params: codec.Buffer) -> bool:
        """A change; returns False if it is none."""

    def listen_ended(self, listen: ShimListen) -> None:
        """The server ended the listen, or exited."""

    def listen_refused(self, listen: ShimListen) -> None:
        """The server answered with an error: it has no subscriptions."""


class ShimListen(PendingRequest):
    """The shim's own listen at a modern server, for its legacy sessions and its tool list."""

    __slots__ = ("owner",)

    def __init__(self, owner: ListenOwner) -> None:
        super().__init__()
        self.owner = owner

    def notification(self, message: Any) -> None:
        """A notification of this subscription."""
        if message.method != ACKNOWLEDGED:
            whole, meta = translation.split_meta(message.params)
            meta.pop(SUBSCRIPTION_KEY, None)
            rest = {**whole, "_meta": meta} if meta else {key: whole[key] for key in whole if key != "_meta"}
            self.owner.publish(message.method, codec.encode(rest) if rest else b"")

    def answered(self, message: Any) -> None:
        if message.error:
            self.owner.listen_refused(self)
        else:
            self.end()

    def failed(self, _failure: Failure) -> None:
        self.end()

    def end(self) -> None:
        """The server exited or ended the listen."""
        self.owner.listen_ended(self)


class EmulatedListen(Responder):
    """A modern client's listen at a legacy server, which has no such request."""

    def __init__(
        self,
        context: Context,
        exchange: Exchange,
        id: bytes,
        filter: dict[str, Any],
        on_client_gone: Callable[[EmulatedListen], None],
    ) -> None:
        """`filter` is the part of the client's filter that the server supports."""
        self.context = context
        self.exchange = exchange
        self.id = id
        self.filter = filter
        self.acknowledged = False
        self._on_client_gone = on_client_gone
        exchange.responder = self

    def acknowledge(self) -> None:
        """Send the first event."""
        self.acknowledged = True
        params = codec.encode({"notifications": self.filter})
        self.exchange.event([with_subscription_id(ACKNOWLEDGED, params, self.id)])

    def deliver(self, method: str, params: codec.Buffer, uri: str | None) -> None:
        """Send a change, if the client asked for it."""
        if not self.acknowledged:
            return
        if method in LISTS:
            wanted = self.filter.get(LISTS[method][0])
        else:
            wanted = uri in self.filter.get("resourceSubscriptions", ())
        if wanted:
            self.exchange.event([with_subscription_id(method, params, self.id)])

    def end(self) -> None:
        """End the subscription gracefully: the server exited, or the shim stops."""
        self._count("ok")
        self.exchange.event(codec.result_pieces(self.id, end_result(self.id)))
        self.exchange.end()

    def client_gone(self) -> None:
        self._count("cancelled")
        self._on_client_gone(self)

    def _count(self, outcome: str) -> None:
        context = self.context
        context.metrics.call("modern", "subscriptions/listen", outcome, context.now() - self.exchange.started)
