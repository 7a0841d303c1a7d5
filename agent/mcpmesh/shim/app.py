"""The shim's HTTP face: which request goes where, and in which era.

Everything on the way of a call runs in callbacks, without a task per request;
tasks are made only where something has to be waited for.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Final

from mcpmesh import __version__
from mcpmesh.shim import modern, wire
from mcpmesh.shim.child import Call, Listener
from mcpmesh.shim.config import Config
from mcpmesh.shim.failure import INTERNAL_ERROR, METHOD_NOT_FOUND, PARSE_ERROR, Failure, refused, unavailable
from mcpmesh.shim.guardian import Guardian
from mcpmesh.shim.head import TRACE, Head, Rules
from mcpmesh.shim.http import Connection, Exchange
from mcpmesh.shim.initialize import Opening
from mcpmesh.shim.kept import Kept
from mcpmesh.shim.log import say
from mcpmesh.shim.metrics import Metrics
from mcpmesh.shim.profile import LEGACY, MODERN, Profile
from mcpmesh.shim.relay import RelayCall, reply_failure
from mcpmesh.shim.session import Session
from mcpmesh.shim.supply import Supply

TICK_SECONDS: Final = 1.0
# A request whose rest does not come within this (seconds) is given up.
REQUEST_HEAD_SECONDS: Final = 30.0
NULL: Final = b"null"
TEXT: Final = b"text/plain; version=0.0.4; charset=utf-8"
# Methods of the older protocol that this revision took away.
GONE: Final = frozenset(("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"))


class App:
    """One service instance."""

    def __init__(self, config: Config, guardian: Guardian) -> None:
        self.config = config
        self.limits = config.limits
        self.rules = Rules(config.allowed_hosts, config.allowed_origins)
        self.metrics = Metrics()
        self.profile = Profile()
        self.kept = Kept(self)
        self.supply = Supply(config, guardian, self.metrics, self.profile, self._listener)
        self.sessions: dict[str, Session] = {}
        self.opening = 0
        self.connections: set[Connection] = set()
        self.draining = False
        self.loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self.loop.time
        self._suffix = f"@{config.affinity}" if config.affinity else ""
        self._ticker: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._refresh: asyncio.TimerHandle | None = None

    def _listener(self) -> Listener:
        return self.kept

    # Plumbing.

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something that has to wait."""
        task = self.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Call something after a while."""
        self.loop.call_later(seconds, what)

    def connected(self, conn: Connection) -> None:
        if len(self.connections) >= self.limits.connections:
            conn.transport.abort()
        self.connections.add(conn)
        if self._ticker is None:
            self._ticker = self.loop.call_later(TICK_SECONDS, self._tick)

    def disconnected(self, conn: Connection) -> None:
        self.connections.discard(conn)

    def _tick(self) -> None:
        """Keep-alives, deadlines, idle sessions. Runs only while there is a connection or a session."""
        now = self.now()
        limits = self.limits
        for conn in list(self.connections):
            exchange = conn.exchange
            if exchange is None:
                if not conn.idle and now - conn.since > REQUEST_HEAD_SECONDS:
                    conn.transport.abort()
            elif exchange.owner is not None:
                if now - exchange.started > self.config.request_seconds:
                    exchange.owner.expired()
                elif exchange.streaming:
                    if now - exchange.written >= limits.keepalive_seconds - TICK_SECONDS:
                        exchange.comment()
                elif exchange.head.accepts_sse and now - exchange.started >= limits.sse_after_seconds:
                    exchange.comment()
        for session in list(self.sessions.values()):
            if not session.busy and now - session.used > limits.session_idle_seconds:
                self.metrics.count("sessions_idled")
                self.end_session(session)
        self.supply.tick(now)
        again = self.connections or self.sessions
        self._ticker = self.loop.call_later(TICK_SECONDS, self._tick) if again else None

    def rejection(self, status: int, message: str) -> bytes:
        """The body of an answer to what could not be read as a request."""
        self.metrics.status(status)
        code = PARSE_ERROR if status == 400 else -32600
        return b"".join(map(bytes, wire.error_pieces(NULL, wire.error_body(code, message))))

    # Requests.

    def handle(self, exchange: Exchange, head: Head, body: bytes) -> None:
        """One whole request."""
        if head.path == b"/mcp" or head.path == b"/mcp/":
            id = NULL
            try:
                if head.method == b"POST":
                    self._post(exchange, head, body)
                elif head.method == b"GET":
                    self._get(exchange, head)
                elif head.method == b"DELETE":
                    self._delete(exchange, head)
                else:
                    raise refused(
                        405, f"{head.method.decode('latin-1')} is not offered here", Allow="GET, POST, DELETE"
                    )
            except Failure as failure:
                reply_failure(exchange, id, failure)
        elif head.method not in (b"GET", b"HEAD"):
            reply_failure(exchange, NULL, refused(404 if head.path not in PLAIN else 405, "only GET is offered here"))
        elif head.path in PLAIN:
            PLAIN[head.path](self, exchange)
        else:
            reply_failure(exchange, NULL, refused(404, "there is /mcp, /health, /ready, /info and /metrics here"))

    def _post(self, exchange: Exchange, head: Head, body: bytes) -> None:
        if not (head.accepts_json and head.accepts_sse):
            raise refused(406, "the header Accept must list application/json and text/event-stream")
        if not head.body_json:
            raise refused(415, "the header Content-Type must be application/json")
        if not body.isascii():
            try:
                body.decode()
            except UnicodeDecodeError:
                raise refused(400, "Parse error: the body is not UTF-8", PARSE_ERROR) from None
        if body[:1] == b"[" or body.lstrip()[:1] == b"[":
            self._batch()
        try:
            message = wire.parse(body)
        except wire.Malformed as error:
            code = -32600 if "Expected" in str(error) else PARSE_ERROR
            raise refused(400, f"{'Invalid request' if code == -32600 else 'Parse error'}: {error}", code) from None
        if message.jsonrpc != "2.0" or (message.method is wire.UNSET and message.id is wire.UNSET):
            raise refused(400, 'Invalid request: the body must be one JSON-RPC 2.0 message ("jsonrpc": "2.0")')
        if message.method is not wire.UNSET and message.id is None:
            raise refused(400, "Invalid request: an id must not be null")
        try:
            if head.version == MODERN or (
                (head.version not in LEGACY and head.version is not None) or modern.mentions_version(message.params)
            ):
                self._modern(exchange, head, message)
            else:
                self._legacy(exchange, head, message, body)
        except Failure as failure:
            id = wire.id_json(message.id) if message.is_request else NULL
            reply_failure(exchange, id, failure)

    # Modern.

    def _modern(self, exchange: Exchange, head: Head, message: Any) -> None:
        if message.method is wire.UNSET:
            raise refused(400, "Invalid request: clients send no responses in this revision")
        if message.id is wire.UNSET:
            if head.version != MODERN:
                raise modern.unsupported(str(head.version))
            exchange.reply(202, [])
            return
        meta = modern.check(head, message.method, message.params)
        if message.method in GONE:
            raise Failure(METHOD_NOT_FOUND, f"Method not found: {message.method}", status=404)
        if self.draining:
            raise unavailable("cannot take the call: the shim is stopping", "draining", 2)
        main = self.supply.main
        if main is not None and main.alive:
            self.kept.call(exchange, head, message, meta, main)
        else:
            self.spawn(self._modern_later(exchange, head, message, meta), "wait for the server")

    async def _modern_later(self, exchange: Exchange, head: Head, message: Any, meta: modern.Meta) -> None:
        try:
            main = await self.supply.ready_main()
            if exchange.live:
                self.kept.call(exchange, head, message, meta, main)
        except Failure as failure:
            reply_failure(exchange, wire.id_json(message.id), failure)

    # Legacy.

    def _legacy(self, exchange: Exchange, head: Head, message: Any, body: bytes) -> None:
        if message.method == "initialize" and message.id is not wire.UNSET:
            self._initialize(exchange, message)
            return
        session = self._session(head)
        if message.method is wire.UNSET:
            session.response(message, body)
        elif message.id is wire.UNSET:
            session.notification(message, body)
        else:
            if self.draining:
                raise unavailable("cannot take the call: the shim is stopping", "draining", 2)
            session.request(exchange, message)
            return
        session.used = exchange.started
        exchange.reply(202, [])

    def _session(self, head: Head) -> Session:
        """The session that a request belongs to; raises Failure."""
        if head.version is not None and head.version not in LEGACY:
            raise refused(400, f"MCP-Protocol-Version {head.version!r} is not supported in a session")
        if head.session is None:
            raise refused(400, "the header Mcp-Session-Id is missing; initialize first")
        session = self.sessions.get(head.session)
        if session is None:
            raise refused(404, "the session is not known here or has ended; initialize again")
        return session

    def _initialize(self, exchange: Exchange, message: Any) -> None:
        if self.draining:
            raise unavailable("cannot open a session: the shim is stopping", "draining", 2)
        if len(self.sessions) + self.opening >= self.limits.sessions:
            raise unavailable(f"cannot open a session: {self.limits.sessions} are open (limits.sessions)", "full", 5)
        Opening(self, exchange, message)

    def new_session_id(self) -> str:
        """Unguessable; ends in the address of the instance that owns the session, where that is told."""
        return secrets.token_hex(16) + self._suffix

    def end_session(self, session: Session) -> None:
        """Close a session and stop its process."""
        if self.sessions.pop(session.id, None) is not None:
            session.close()
            if session.child.alive:
                self.supply.stop_soon(session.child)

    def _batch(self) -> None:
        raise refused(400, "Invalid request: batches are not offered")

    def _get(self, exchange: Exchange, head: Head) -> None:
        if head.version == MODERN:
            raise refused(405, "this revision has POST only", Allow="POST")
        if not head.accepts_sse:
            raise refused(406, "the header Accept must list text/event-stream")
        self._session(head).listen(exchange)

    def _delete(self, exchange: Exchange, head: Head) -> None:
        if head.version == MODERN:
            raise refused(405, "this revision has POST only", Allow="POST")
        self.end_session(self._session(head))
        exchange.reply(200, [])

    def rewrite(self, call: RelayCall, params: wire.Buffer, head: Head) -> bytes:
        """Params with the shim's progress token, and trace context that only the headers had."""
        try:
            whole = wire.members(params) if params else {}
            meta = wire.members(whole["_meta"]) if "_meta" in whole else {}
        except wire.Malformed:
            return bytes(params)
        if (token := meta.get("progressToken")) is not None:
            call.token = token
            meta["progressToken"] = call.id
        for key in TRACE:
            name = key.decode()
            if key in head.headers and name not in meta:
                meta[name] = head.headers[key].decode("latin-1")
        return wire.encode({**whole, "_meta": meta} if meta else whole)

    def profile_notified(self, method: str) -> None:
        """A server's list changed: ask the kept one for its tools again, once for a burst."""
        if method == "notifications/tools/list_changed" and self._refresh is None:
            self._refresh = self.loop.call_later(0.5, self._ask_again)

    def _ask_again(self) -> None:
        self._refresh = None
        if (main := self.supply.main) is not None:
            self.spawn(self.supply.refresh(main), "tools")

    # Plain endpoints.

    def health(self, exchange: Exchange) -> None:
        exchange.reply(200, [b'{"status":"alive"}'])

    def ready(self, exchange: Exchange) -> None:
        self.spawn(self._ready(exchange), "ready")

    async def _ready(self, exchange: Exchange) -> None:
        supply = self.supply
        state = "draining" if self.draining else supply.state
        if state == "ready" and not await supply.proven():
            state = supply.state if supply.state != "ready" else "restarting"
        body: dict[str, Any] = {"state": state, "name": self.config.name, "instance": self.config.instance}
        if state != "ready":
            body["error"] = supply.error or f"the server is {state}"
            body["exit_code"] = supply.exit.code if supply.exit else None
            body["output"] = list(supply.tail.lines)
        self.metrics.status(200 if state == "ready" else 503)
        exchange.reply(200 if state == "ready" else 503, [wire.encode(body)])

    def info(self, exchange: Exchange) -> None:
        profile = self.profile
        body = {
            "name": self.config.name,
            "instance": self.config.instance,
            "pid": os.getpid(),
            "version": __version__,
            "isolation": self.config.isolation,
            "server": {key: profile.server.get(key, "") for key in ("name", "version")},
            "protocol_versions": sorted(profile.versions),
            "eras": profile.eras,
            "capabilities": profile.capabilities,
            "tools": profile.tool_digests(),
            **self.counts(),
        }
        exchange.reply(200, [wire.encode(body)])

    def counts(self) -> dict[str, int]:
        """What is there just now."""
        return {
            "children": len(self.supply.children),
            "sessions": len(self.sessions),
            "in_flight": sum(
                1 for conn in self.connections if conn.exchange is not None and self._is_call(conn.exchange)
            ),
        }

    @staticmethod
    def _is_call(exchange: Exchange) -> bool:
        return isinstance(exchange.owner, Call | Opening)

    def metrics_text(self, exchange: Exchange) -> None:
        counts = self.counts()
        gauges: dict[str, tuple[str, float]] = {
            "up": ("1 when the server is ready.", float(self.supply.state == "ready")),
            "children": ("Server processes.", counts["children"]),
            "sessions": ("Legacy sessions.", counts["sessions"]),
            "in_flight": ("Calls in flight.", counts["in_flight"]),
            "connections": ("Client connections.", len(self.connections)),
        }
        labels = {"service": self.config.name, "instance": self.config.instance}
        exchange.reply(200, [self.metrics.text(gauges, labels).encode()], TEXT)

    # The end.

    async def drain(self) -> int:
        """Take nothing new, let what runs finish within drain_seconds; answers how many calls were cut."""
        self.draining = True
        deadline = self.now() + self.config.drain_seconds
        for session in list(self.sessions.values()):
            session.close()
        # A drain looks at many ends, not at one event.
        while (left := self.counts()["in_flight"]) and self.now() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        if left:
            self.metrics.count("cut_calls", left)
        say("drained; %d calls were cut", left)
        return left

    async def close(self) -> None:
        """Stop every process, close every connection."""
        if self._ticker is not None:
            self._ticker.cancel()
        failure = Failure(INTERNAL_ERROR, "the shim stopped before the server answered", {"reason": "stopped"})
        for conn in list(self.connections):
            exchange = conn.exchange
            if exchange is not None and isinstance(exchange.owner, RelayCall):
                exchange.owner.failed(failure)
        await self.supply.close()
        for conn in list(self.connections):
            conn.transport.close()


PLAIN: Final[dict[bytes, Callable[[App, Exchange], None]]] = {
    b"/health": App.health,
    b"/ready": App.ready,
    b"/info": App.info,
    b"/metrics": App.metrics_text,
}
