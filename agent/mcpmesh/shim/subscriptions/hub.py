"""Change notifications of the kept server, to whoever asked for them.

A legacy server sends them of its own accord (lists) or after
`resources/subscribe`; a modern one within a `subscriptions/listen`, of which
the shim keeps one for its legacy sessions and its own tool list. Modern
clients' own listens at a modern server are relayed one to one, with both the
request id and the subscription id replaced
(2026-07-28/basic/patterns/subscriptions.mdx).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from mcpmesh.shim.calls.client_call import needs_rewrite, rewrite
from mcpmesh.shim.errors import INVALID_PARAMS, Failure
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.http.head import Head
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.protocol.modern_request import LOG_LEVELS, Meta, invalid
from mcpmesh.shim.server.handshake import modern_meta
from mcpmesh.shim.server.peer import Child
from mcpmesh.shim.subscriptions.listeners import (
    CANCELLED,
    LISTS,
    UPDATED,
    Listen,
    OwnListen,
    RelayedListen,
    subscription_of,
)

if TYPE_CHECKING:
    from mcpmesh.shim.app import App
    from mcpmesh.shim.sessions.multiplexed import SharedSession

ASK_SECONDS: Final = 30.0
# A modern server that ended the shim's own listen is asked again after this.
AGAIN_SECONDS: Final = 5.0


class Subscriptions:
    """Who wants to hear of which changes."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.own: OwnListen | None = None
        self.listens: set[Listen] = set()
        self.sessions: dict[SharedSession, set[str]] = {}
        self._held: set[str] = set()
        self._settling = asyncio.Lock()
        self._refused = False
        self._again: asyncio.TimerHandle | None = None

    # Modern clients.

    def listen(self, exchange: Exchange, head: Head, message: Any, meta: Meta, child: Child) -> None:
        """A modern client's subscriptions/listen; raises Failure."""
        id = codec.id_json(message.id)
        if child.modern:
            call = RelayedListen(self.app, exchange, id, message.method)
            call.child = child
            call.log_level = meta.log_level or None
            child.reserve(call)
            params = message.params
            child.process.write(
                codec.request(
                    call.id, message.method, rewrite(call, params, head) if needs_rewrite(head, params) else params
                )
            )
            return
        whole, _ = translation.split(message.params)
        wanted = codec.value(whole.get("notifications", b"null"))
        if not isinstance(wanted, dict):
            raise invalid("params.notifications must be an object")
        listen = Listen(self, exchange, id, self._honoured(wanted))
        self.listens.add(listen)
        self.app.spawn(self._acknowledge(listen), "acknowledge")

    def _honoured(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """The part of a filter that a legacy server can serve."""
        abilities = self.app.profile.capabilities
        honoured: dict[str, Any] = {}
        for field, ability in LISTS.values():
            if wanted.get(field) is True and (abilities.get(ability) or {}).get("listChanged"):
                honoured[field] = True
        uris = wanted.get("resourceSubscriptions")
        if isinstance(uris, list) and (abilities.get("resources") or {}).get("subscribe"):
            honoured["resourceSubscriptions"] = [uri for uri in uris if isinstance(uri, str)]
        return honoured

    async def _acknowledge(self, listen: Listen) -> None:
        if listen.wanted.get("resourceSubscriptions"):
            await self._settle()
        if listen.exchange.live:
            listen.acknowledge()

    def unlisten(self, listen: Listen) -> None:
        """The client closed its stream."""
        self.listens.discard(listen)
        self.app.spawn(self._settle(), "unsubscribe")

    # Legacy clients over kept processes.

    def session_opened(self, session: SharedSession) -> None:
        """Its client is initialized and may be told of changes."""
        self.sessions.setdefault(session, set())
        main = self.app.supply.main
        # A session that names no resources yet changes nothing but where it is the first that a modern server has.
        if main is not None and main.modern and self.own is None:
            self.app.spawn(self._settle(), "subscribe")

    def session_closed(self, session: SharedSession) -> None:
        """Nobody is left to tell."""
        if self.sessions.pop(session, None):
            self.app.spawn(self._settle(), "unsubscribe")

    def session_resource(self, session: SharedSession, exchange: Exchange, message: Any) -> None:
        """resources/subscribe and resources/unsubscribe; raises Failure."""
        whole, _ = translation.split(message.params)
        uri = codec.value(whole.get("uri", b"null"))
        if not isinstance(uri, str):
            raise Failure(INVALID_PARAMS, "params.uri is missing")
        uris = self.sessions.setdefault(session, set())
        if message.method == "resources/subscribe":
            uris.add(uri)
        else:
            uris.discard(uri)
        self.app.spawn(self._answer_resource(session, exchange, message, uri), "subscribe")

    async def _answer_resource(self, session: SharedSession, exchange: Exchange, message: Any, uri: str) -> None:
        refused = await self._settle()
        uris = self.sessions.get(session, set())
        if uri in refused and uri in uris:
            uris.discard(uri)
            session.answer(exchange, message, refused[uri])
        else:
            session.answer(exchange, message)

    async def set_level(self, child: Child) -> None:
        """Let a legacy server log as much as the most curious session wants; each hears only its own level."""
        wanted = [s.log_level for s in self.sessions if s.log_level is not None]
        if wanted:
            with contextlib.suppress(Failure, TimeoutError):
                await child.ask("logging/setLevel", {"level": min(wanted, key=LOG_LEVELS.index)}, ASK_SECONDS)

    # The server.

    async def _settle(self) -> dict[str, codec.Buffer]:
        """Bring what the server is subscribed to in line with what is wanted; answers what it refused."""
        async with self._settling:
            main = self.app.supply.main
            return await self._bring_in_line(main) if main is not None and main.alive else {}

    async def _bring_in_line(self, main: Child) -> dict[str, codec.Buffer]:
        wanted: set[str] = set().union(
            *self.sessions.values(), *(listen.wanted.get("resourceSubscriptions", ()) for listen in self.listens)
        )
        if main.modern:
            self._listen_anew(main, wanted)
            return {}
        refused: dict[str, codec.Buffer] = {}
        changes = [(uri, "resources/subscribe") for uri in wanted - self._held]
        changes += [(uri, "resources/unsubscribe") for uri in self._held - wanted]
        self._held = set(wanted)

        async def change(uri: str, method: str) -> None:
            with contextlib.suppress(Failure, TimeoutError):
                answer = await main.ask(method, {"uri": uri}, ASK_SECONDS)
                if answer.error and method == "resources/subscribe":
                    self._held.discard(uri)
                    refused[uri] = answer.error

        await asyncio.gather(*(change(uri, method) for uri, method in changes))
        return refused

    def _listen_anew(self, main: Child, uris: set[str]) -> None:
        if (self.own is not None or self._refused) and uris == self._held:
            return
        abilities = self.app.profile.capabilities
        wanted: dict[str, Any] = {
            field: True for field, ability in LISTS.values() if (abilities.get(ability) or {}).get("listChanged")
        }
        if uris:
            wanted["resourceSubscriptions"] = sorted(uris)
        if not wanted:
            return
        old, self.own = self.own, OwnListen(self)
        self._held = set(uris)
        self._refused = False
        try:
            params = {"_meta": modern_meta(), "notifications": wanted}
            main.send(self.own, "subscriptions/listen", codec.encode(params))
        except Failure:
            self.own_ended(self.own)
        if old is not None:
            main.cancel(old, "replaced")
            main.lay(old.id)

    def own_ended(self, own: OwnListen) -> None:
        """The shim's own listen is over; where the server goes on, it is asked again in a while."""
        if self.own is own:
            self.own = None
            if self._again is None:
                self._again = self.app.loop.call_later(AGAIN_SECONDS, self._listen_again)

    def own_refused(self, own: OwnListen) -> None:
        """This server has none; a change of what is wanted, or another process, is worth another try."""
        if self.own is own:
            self.own = None
            self._refused = True

    def _listen_again(self) -> None:
        self._again = None
        main = self.app.supply.main
        if self.own is None and main is not None and main.modern and not self.app.draining:
            self.app.spawn(self._settle_quietly(), "subscribe")

    def main_started(self) -> None:
        """A new kept process: subscribe it to what is wanted."""
        self._held = set()
        self.own = None
        self._refused = False
        self.app.spawn(self._settle_quietly(), "subscribe")

    async def _settle_quietly(self) -> None:
        await self._settle()

    def notified(self, child: Child, message: Any) -> bool:
        """A notification of a kept process; False when it concerns nobody."""
        if child.modern:
            call = child.calls.get(subscription_of(message) or 0)
            if not isinstance(call, RelayedListen | OwnListen):
                return False
            if message.method == CANCELLED:
                # The server took the subscription down; it sends this for nothing else.
                child.forget(call)
                call.end()
            else:
                call.heard(message)
            return True
        return self.dispatch(message.method, message.params)

    def dispatch(self, method: str, params: codec.Buffer) -> bool:
        """A change, to all who asked to hear of it; False when it is no change."""
        if method in LISTS:
            self.app.server_notified(method)
            uri = None
        elif method == UPDATED:
            whole, _ = translation.split(params)
            uri = codec.value(whole.get("uri", b"null"))
            if not isinstance(uri, str):
                return False
        else:
            return False
        for listen in list(self.listens):
            listen.deliver(method, params, uri)
        for session, uris in list(self.sessions.items()):
            if uri is None or uri in uris:
                session.tell(codec.notification(method, params))
        return True

    def ended(self, child: Child) -> None:
        """A kept process ended: modern clients subscribe again, sessions are taken over by the next."""
        if child is self.app.supply.main or self.app.supply.main is None:
            self.close()
            self._held = set()
            self.own = None

    def close(self) -> None:
        """End the modern clients' streams gracefully."""
        listens, self.listens = self.listens, set()
        over: list[Listen | RelayedListen] = [*listens]
        if (main := self.app.supply.main) is not None:
            over += [call for call in main.calls.values() if isinstance(call, RelayedListen)]
        for listen in over:
            if listen.exchange.live:
                listen.end()
