"""Which request goes where, and in which era.

Everything on the way of a call runs in callbacks, without a task per request.
A request is modern when its header or its body says so; otherwise it is legacy
and belongs to a session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcpmesh.shim.calls.client_call import reply_failure
from mcpmesh.shim.endpoints import ENDPOINTS
from mcpmesh.shim.errors import INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, Failure, refused, unavailable
from mcpmesh.shim.http.batch import Batch
from mcpmesh.shim.http.exchange import Exchange, Owner
from mcpmesh.shim.http.head import Head
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import modern_request, param_headers, translation
from mcpmesh.shim.protocol.server_info import LEGACY, MODERN
from mcpmesh.shim.sessions.initialize import Opening
from mcpmesh.shim.sessions.session import Session

if TYPE_CHECKING:
    from mcpmesh.shim.app import App

NULL: Final = b"null"
# Methods of the older protocol that this revision took away.
GONE: Final = frozenset(("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"))
# Only these revisions had batches; a session without a version header may be of the first.
BATCHING: Final = (None, "2024-11-05", "2025-03-26")
MAX_BATCH: Final = 1000


class Routes:
    """The requests of one shim."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.mirrors = param_headers.Mirrors()

    def handle(self, exchange: Exchange, head: Head, body: bytes) -> None:
        """One whole request."""
        try:
            if head.path == b"/mcp" or head.path == b"/mcp/":
                self._mcp(exchange, head, body)
            elif (endpoint := ENDPOINTS.get(head.path)) is not None:
                if head.method not in (b"GET", b"HEAD"):
                    raise refused(405, "only GET and HEAD are offered here", Allow="GET, HEAD")
                endpoint(self.app, exchange)
            else:
                raise refused(404, "here are /mcp, /health, /ready, /info and /metrics")
        except (Failure, codec.Malformed) as error:
            reply_failure(exchange, NULL, _failure(error))

    def _mcp(self, exchange: Exchange, head: Head, body: bytes) -> None:
        if head.method == b"POST":
            self._post(exchange, head, body)
        elif head.method not in (b"GET", b"DELETE"):
            raise refused(405, f"{head.method.decode('latin-1')} is not offered here", Allow="GET, POST, DELETE")
        elif head.version == MODERN:
            raise refused(405, "this revision of the protocol has POST only", Allow="POST")
        elif head.method == b"GET":
            if not head.accepts_sse:
                raise refused(406, "the header Accept must list text/event-stream")
            self._session(head).listen(exchange)
        else:
            self.app.end_session(self._session(head))
            exchange.reply(200, [])

    def _post(self, exchange: Exchange, head: Head, body: bytes) -> None:
        if not (head.accepts_json and head.accepts_sse):
            raise refused(406, "the header Accept must list application/json and text/event-stream")
        if not head.body_json:
            if head.encoded:
                raise refused(415, "the body must be sent without a Content-Encoding", Accept_Encoding="identity")
            raise refused(415, "the header Content-Type must be application/json")
        if not body.isascii():
            try:
                body.decode()
            except UnicodeDecodeError:
                raise refused(400, "Parse error: the body is not UTF-8", PARSE_ERROR) from None
        if body[:1] != b"{" and body.lstrip()[:1] == b"[":
            self._batch(exchange, head, body)
        else:
            self._message(exchange, head, self._parse(body))

    @staticmethod
    def _parse(body: codec.Buffer) -> Any:
        try:
            message = codec.parse(body)
        except codec.Unfit as error:
            raise refused(400, f"Invalid request: {error}") from None
        except codec.Malformed as error:
            raise refused(400, f"Parse error: {error}", PARSE_ERROR) from None
        if message.jsonrpc != "2.0":
            raise refused(400, 'Invalid request: "jsonrpc" must be "2.0"')
        if message.method is codec.UNSET:
            if message.id is codec.UNSET or message.id is None or not (message.result or message.error):
                raise refused(400, "Invalid request: neither a request, a notification nor a response")
        elif message.id is None:
            raise refused(400, "Invalid request: an id must not be null")
        return message

    def _message(self, exchange: Exchange, head: Head, message: Any) -> None:
        try:
            if head.version == MODERN or self._is_modern(head, message):
                self._modern(exchange, head, message)
            else:
                self._legacy(exchange, head, message)
        except (Failure, codec.Malformed) as error:
            asked = message.method is not codec.UNSET and message.id is not codec.UNSET
            reply_failure(exchange, codec.id_json(message.id) if asked else NULL, _failure(error))

    @staticmethod
    def _is_modern(head: Head, message: Any) -> bool:
        if head.version is not None and head.version not in LEGACY:
            # An unknown revision: newer ones have their metadata in the body, and are told what is supported.
            return modern_request.mentions_version(message.params) or head.session is None
        return modern_request.mentions_version(message.params)

    # Modern.

    def _modern(self, exchange: Exchange, head: Head, message: Any) -> None:
        if message.method is codec.UNSET:
            raise refused(400, "Invalid request: clients send no responses in this revision of the protocol")
        if message.id is codec.UNSET:
            if head.version != MODERN:
                raise modern_request.unsupported(str(head.version))
            _compare(head, message)
            exchange.reply(202, [])
            return
        method = message.method
        meta, name = modern_request.check(head, method, message.params)
        if method in GONE:
            raise Failure(METHOD_NOT_FOUND, f"Method not found: {method}", status=404)
        if self.app.draining:
            raise unavailable("cannot take the call: the shim is stopping", "draining", 2)
        main = self.app.supply.main
        if main is not None and main.alive:
            self._dispatch(exchange, head, message, meta, name)
        else:
            self.app.kept.wait()
            exchange.owner = Waiting()
            self.app.spawn(self._when_ready(exchange, head, message, meta, name), "wait for the server")

    async def _when_ready(
        self, exchange: Exchange, head: Head, message: Any, meta: modern_request.Meta, name: str
    ) -> None:
        try:
            await self.app.supply.ready_main()
            if exchange.live:
                self._dispatch(exchange, head, message, meta, name)
        except (Failure, codec.Malformed) as error:
            reply_failure(exchange, codec.id_json(message.id), _failure(error))
        finally:
            self.app.kept.waiting -= 1

    def _dispatch(self, exchange: Exchange, head: Head, message: Any, meta: modern_request.Meta, name: str) -> None:
        app = self.app
        method = message.method
        if method == "server/discover":
            app.metrics.call("modern", method, "ok", app.now() - exchange.started)
            exchange.reply(200, codec.result_pieces(codec.id_json(message.id), codec.encode(app.kept.discovered())))
        elif method == "subscriptions/listen":
            assert app.supply.main is not None
            app.subscriptions.listen(exchange, head, message, meta, app.supply.main)
        else:
            if method == "tools/call" and (mirrored := self.mirrors.of(app.profile.tools, name)):
                param_headers.check(mirrored, head, message.params)
            app.kept.call(exchange, head, message, meta)

    # Legacy.

    def _legacy(self, exchange: Exchange, head: Head, message: Any) -> None:
        _compare(head, message)
        if message.method == "initialize" and message.id is not codec.UNSET:
            if head.duplicated is not None:
                raise _twice(head.duplicated)
            self._initialize(exchange, message)
            return
        session = self._session(head)
        session.used = exchange.started
        if message.method is codec.UNSET:
            session.response(message)
        elif message.id is codec.UNSET:
            session.notification(message)
        else:
            if self.app.draining:
                raise unavailable("cannot take the call: the shim is stopping", "draining", 2)
            session.request(exchange, message)
            return
        exchange.reply(202, [])

    def _session(self, head: Head) -> Session:
        """The session that a request belongs to; raises Failure."""
        if head.duplicated is not None:
            raise _twice(head.duplicated)
        if head.version is not None and head.version not in LEGACY:
            raise refused(400, f"MCP-Protocol-Version {head.version!r} is not supported in a session")
        if head.session is None:
            raise refused(400, "the header Mcp-Session-Id is missing; initialize first")
        session = self.app.sessions.get(head.session)
        if session is None:
            raise refused(404, "the session is not known here or has ended; initialize again")
        return session

    def _initialize(self, exchange: Exchange, message: Any) -> None:
        app = self.app
        if app.draining:
            raise unavailable("cannot open a session: the shim is stopping", "draining", 2)
        if len(app.sessions) + app.opening >= app.limits.sessions and not app.evict():
            raise unavailable(f"cannot open a session: {app.limits.sessions} are open (limits.sessions)", "full", 5)
        Opening(app, exchange, message)

    def _batch(self, exchange: Exchange, head: Head, body: bytes) -> None:
        if head.version not in BATCHING:
            raise refused(400, "Invalid request: this revision of the protocol has no batches")
        session = self._session(head)
        session.used = exchange.started
        try:
            raws = codec.parse_batch(body)
        except codec.Malformed as error:
            raise refused(400, f"Parse error: {error}", PARSE_ERROR) from None
        if not 0 < len(raws) <= MAX_BATCH:
            raise refused(400, f"Invalid request: a batch has 1 to {MAX_BATCH} messages")
        messages = [self._parse(raw) for raw in raws]
        if any(message.method == "initialize" for message in messages):
            raise refused(400, "Invalid request: initialize can't be part of a batch", INVALID_REQUEST)
        for message in messages:
            if message.id is codec.UNSET:
                # A request is compared on its own; what gets no answer is refused with the whole.
                _compare(head, message)
        batch = Batch(exchange)
        for number, message in enumerate(messages):
            if message.method is not codec.UNSET and message.id is not codec.UNSET:
                part = batch.part()
                self._message(part, head, message)
            else:
                try:
                    (session.response if message.method is codec.UNSET else session.notification)(message)
                except Failure:
                    if number == 0:
                        raise
                    # What came before it was given out: that nothing was, which a failure says, is untrue.
                    self.app.metrics.count("dropped_notifications")
        batch.close()


class Waiting(Owner):
    """Of an exchange whose call was not sent yet; starting a process has its own deadline."""


def _failure(error: Failure | codec.Malformed) -> Failure:
    """Spans of a message are looked into late, and may hold what can't be read: a number too long, half a character."""
    return error if isinstance(error, Failure) else modern_request.invalid(f"the params can't be read ({error})")


def _twice(header: str) -> Failure:
    return modern_request.mismatch(f"the header {header} appears more than once")


def _compare(head: Head, message: Any) -> None:
    """What needs none of the newer headers is held to those that it has: policy may have gone by them."""
    if message.method is codec.UNSET:
        return
    if head.mcp_method is not None and head.mcp_method != message.method:
        raise modern_request.mismatch(f"the header Mcp-Method says {head.mcp_method!r}, the body {message.method!r}")
    if head.mcp_name is not None:
        params, _ = translation.split(message.params)
        key = modern_request.NAMED.get(message.method, "")
        modern_request.one_reading(key, params)
        name = codec.value(params.get(key, b"null"))
        if name is None or modern_request.decode(head.mcp_name, strict=True) != name:
            raise modern_request.mismatch(f"the header Mcp-Name says {head.mcp_name!r}, the body {name!r}")
