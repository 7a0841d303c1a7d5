"""The kinds of `subscriptions/listen`: a client's at a server of either era, and the shim's own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from mcpmesh.shim import translate, wire
from mcpmesh.shim.calls import ModernCall
from mcpmesh.shim.child import Call
from mcpmesh.shim.exchange import Exchange, Owner
from mcpmesh.shim.failure import Failure

if TYPE_CHECKING:
    from mcpmesh.shim.app import App
    from mcpmesh.shim.subscriptions import Subscriptions

LISTS: Final = {
    "notifications/tools/list_changed": ("toolsListChanged", "tools"),
    "notifications/prompts/list_changed": ("promptsListChanged", "prompts"),
    "notifications/resources/list_changed": ("resourcesListChanged", "resources"),
}
UPDATED: Final = "notifications/resources/updated"
CANCELLED: Final = "notifications/cancelled"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"


def tagged(method: str, params: wire.Buffer, id: bytes) -> bytes:
    """A notification that carries the id of the subscription it belongs to."""
    whole, meta = translate.split(params)
    meta[wire.SUBSCRIPTION_KEY] = wire.Raw(id)
    return wire.notification(method, wire.encode({**whole, "_meta": meta}))


def ended(id: bytes) -> bytes:
    """The result by which a subscription ends gracefully (2026-07-28/basic/patterns/subscriptions.mdx)."""
    return wire.encode({"resultType": "complete", "_meta": {wire.SUBSCRIPTION_KEY: wire.Raw(id)}})


def subscription_of(message: Any) -> int | None:
    """The subscription that a modern server's notification names, where it is one of the shim's."""
    whole, meta = translate.split(message.params)
    with contextlib.suppress(wire.Malformed):
        named = whole.get("requestId") if message.method == CANCELLED else meta.get(wire.SUBSCRIPTION_KEY)
        id = wire.value(named or b"null")
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
            whole, meta = translate.split(message.result)
            meta[wire.SUBSCRIPTION_KEY] = wire.Raw(self.client_id)
            message.result = wire.Raw(wire.encode({**whole, "_meta": meta}))
        super().answered(message)

    def failed(self, _failure: Failure) -> None:
        """The server is gone: nothing was cut that could have taken effect."""
        self.end()

    def end(self) -> None:
        """The server is gone or ended it, or the shim stops: a graceful end."""
        self._cancel("the subscription is over")
        self.count("ok")
        self.deliver(200, wire.result_pieces(self.client_id, ended(self.client_id)))

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
            whole, meta = translate.split(message.params)
            meta.pop(wire.SUBSCRIPTION_KEY, None)
            rest = {**whole, "_meta": meta} if meta else {key: whole[key] for key in whole if key != "_meta"}
            self.hub.dispatch(message.method, wire.encode(rest) if rest else b"")

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
        self.exchange.event([tagged(ACKNOWLEDGED, wire.encode({"notifications": self.wanted}), self.id)])

    def deliver(self, method: str, params: wire.Buffer, uri: str | None) -> None:
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
        self.exchange.event(wire.result_pieces(self.id, ended(self.id)))
        self.exchange.end()

    def gone(self) -> None:
        self._count("cancelled")
        self.hub.unlisten(self)

    def _count(self, outcome: str) -> None:
        app = self.hub.app
        app.metrics.call("modern", "subscriptions/listen", outcome, app.now() - self.exchange.started)
