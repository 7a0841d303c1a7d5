"""The kinds of `subscriptions/listen`: a client's at a server of either era, and the shim's own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from mcpmesh.shim.calls.multiplexed_call import ModernCall
from mcpmesh.shim.errors import Failure
from mcpmesh.shim.http.exchange import Exchange, Owner
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.server.peer import Call

if TYPE_CHECKING:
    from mcpmesh.shim.app import App
    from mcpmesh.shim.subscriptions.hub import Subscriptions

LISTS: Final = {
    "notifications/tools/list_changed": ("toolsListChanged", "tools"),
    "notifications/prompts/list_changed": ("promptsListChanged", "prompts"),
    "notifications/resources/list_changed": ("resourcesListChanged", "resources"),
}
UPDATED: Final = "notifications/resources/updated"
CANCELLED: Final = "notifications/cancelled"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"


def tagged(method: str, params: codec.Buffer, id: bytes) -> bytes:
    """A notification that carries the id of the subscription it belongs to."""
    whole, meta = translation.split(params)
    meta[codec.SUBSCRIPTION_KEY] = codec.Raw(id)
    return codec.notification(method, codec.encode({**whole, "_meta": meta}))


def ended(id: bytes) -> bytes:
    """The result by which a subscription ends gracefully (2026-07-28/basic/patterns/subscriptions.mdx)."""
    return codec.encode({"resultType": "complete", "_meta": {codec.SUBSCRIPTION_KEY: codec.Raw(id)}})


def subscription_of(message: Any) -> int | None:
    """The subscription that a modern server's notification names, where it is one of the shim's."""
    whole, meta = translation.split(message.params)
    with contextlib.suppress(codec.Malformed):
        named = whole.get("requestId") if message.method == CANCELLED else meta.get(codec.SUBSCRIPTION_KEY)
        id = codec.value(named or b"null")
        return id if type(id) is int else None
    return None


class RelayedListen(ModernCall):
    """A modern client's listen at a modern server."""

    __slots__ = ("taken",)

    def __init__(self, app: App, exchange: Exchange, client_id: bytes, method: str) -> None:
        super().__init__(app, exchange, client_id, method)
        self.taken = False
        """Whether the server acknowledged it."""

    @property
    def at_work(self) -> bool:
        return False

    def heard(self, message: Any) -> None:
        """A notification of this subscription."""
        self.taken = True
        if self.exchange.live:
            self.exchange.event([tagged(message.method, message.params, self.client_id)])

    def answered(self, message: Any) -> None:
        if message.error and self.taken:
            # The connection to a remote server broke.
            self.end()
            return
        if message.result:
            whole, meta = translation.split(message.result)
            meta[codec.SUBSCRIPTION_KEY] = codec.Raw(self.client_id)
            message.result = codec.Raw(codec.encode({**whole, "_meta": meta}))
        super().answered(message)

    def failed(self, _failure: Failure) -> None:
        """The server is gone: nothing was cut that could have taken effect."""
        self.end()

    def end(self) -> None:
        """The server is gone or ended it, or the shim stops: a graceful end."""
        self._cancel("the subscription is over")
        self.count("ok")
        self.deliver(200, codec.result_pieces(self.client_id, ended(self.client_id)))

    def expired(self) -> None:
        """A subscription has no deadline."""

    def _cancel(self, reason: str) -> None:
        super()._cancel(reason)
        if self.child is not None:
            # No work goes on for it that the server could speak of.
            self.child.lay(self.id)


class OwnListen(Call):
    """The shim's own listen at a modern server."""

    __slots__ = ("hub",)

    def __init__(self, hub: Subscriptions) -> None:
        super().__init__()
        self.hub = hub

    def heard(self, message: Any) -> None:
        """A notification for the legacy sessions."""
        if message.method != ACKNOWLEDGED:
            whole, meta = translation.split(message.params)
            meta.pop(codec.SUBSCRIPTION_KEY, None)
            rest = {**whole, "_meta": meta} if meta else {key: whole[key] for key in whole if key != "_meta"}
            self.hub.dispatch(message.method, codec.encode(rest) if rest else b"")

    def answered(self, message: Any) -> None:
        if message.error:
            self.hub.own_refused(self)
        else:
            self.end()

    def failed(self, _failure: Failure) -> None:
        self.end()

    def end(self) -> None:
        """The server is gone or ended it."""
        self.hub.own_ended(self)


class Listen(Owner):
    """A modern client's listen at a legacy server."""

    def __init__(self, hub: Subscriptions, exchange: Exchange, id: bytes, wanted: dict[str, Any]) -> None:
        self.hub = hub
        self.exchange = exchange
        self.id = id
        self.wanted = wanted
        self.open = False
        exchange.owner = self

    def acknowledge(self) -> None:
        """The first event."""
        self.open = True
        self.exchange.event([tagged(ACKNOWLEDGED, codec.encode({"notifications": self.wanted}), self.id)])

    def deliver(self, method: str, params: codec.Buffer, uri: str | None) -> None:
        """A change, if it was asked for."""
        if not self.open:
            return
        if method in LISTS:
            wanted = self.wanted.get(LISTS[method][0])
        else:
            wanted = uri in self.wanted.get("resourceSubscriptions", ())
        if wanted:
            self.exchange.event([tagged(method, params, self.id)])

    def end(self) -> None:
        """The server is gone or the shim stops: a graceful end."""
        self._count("ok")
        self.exchange.event(codec.result_pieces(self.id, ended(self.id)))
        self.exchange.end()

    def gone(self) -> None:
        self._count("cancelled")
        self.hub.unlisten(self)

    def _count(self, outcome: str) -> None:
        app = self.hub.app
        app.metrics.call("modern", "subscriptions/listen", outcome, app.now() - self.exchange.started)
