"""Decides where each request goes, and in which era.

A call is handled in callbacks only, without a task for each request. A request
is modern if its header or its body says so; otherwise it is legacy and belongs
to a session.
"""

from __future__ import annotations

from typing import Any, Final

from mcpmesh.shim.calls.dispatcher import Dispatcher
from mcpmesh.shim.endpoints import Endpoints
from mcpmesh.shim.errors import INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, Failure, refused, unavailable
from mcpmesh.shim.http.batch import Batch
from mcpmesh.shim.http.exchange import Exchange, Responder, reply_failure
from mcpmesh.shim.http.request_head import Head
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import modern_request, translation
from mcpmesh.shim.protocol.param_headers import ParamHeaders, check_param_headers
from mcpmesh.shim.protocol.versions import LEGACY, MODERN
from mcpmesh.shim.sessions.initialize import SessionOpener
from mcpmesh.shim.sessions.registry import SessionRegistry
from mcpmesh.shim.sessions.session import Session
from mcpmesh.shim.subscriptions.hub import SubscriptionHub

NULL: Final = b"null"
# Methods of the legacy era that the modern one has no more.
LEGACY_ONLY: Final = frozenset(
    ("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe")
)
# Only these revisions have batches; a session without a version header may be of the first.
BATCHING: Final = (None, "2024-11-05", "2025-03-26")
MAX_BATCH: Final = 1000


class AwaitingServer(Responder):
    """Responder of a call that was not sent yet. It has no deadline here: starting a process has its own."""

    is_call = True


class Router:
    """Handles the requests of one shim."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        hub: SubscriptionHub,
        registry: SessionRegistry,
        opener: SessionOpener,
        endpoints: Endpoints,
    ) -> None:
        self.context = dispatcher.context
        self.pool = dispatcher.pool
        self.server_info = dispatcher.server_info
        self.dispatcher = dispatcher
        self.hub = hub
        self.sessions = registry.sessions
        self.end_session = registry.end
        self.opener = opener
        self.endpoints = endpoints.by_path
        self.param_headers = ParamHeaders()

    def handle(self, exchange: Exchange, head: Head, body: bytes) -> None:
        """Handle one complete request."""
        try:
            if head.path == b"/mcp" or head.path == b"/mcp/":
                self._mcp(exchange, head, body)
            elif (endpoint := self.endpoints.get(head.path)) is not None:
                if head.method not in (b"GET", b"HEAD"):
                    raise refused(405, "only GET and HEAD are offered here", Allow="GET, HEAD")
                endpoint(exchange)
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
            self._find_session(head).listen(exchange)
        else:
            self.end_session(self._find_session(head))
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
        except codec.NotJsonRpc as error:
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
            is_request = message.method is not codec.UNSET and message.id is not codec.UNSET
            reply_failure(exchange, codec.id_json(message.id) if is_request else NULL, _failure(error))

    @staticmethod
    def _is_modern(head: Head, message: Any) -> bool:
        claims = modern_request.claims_modern(message.params)
        if head.version is not None and head.version not in LEGACY:
            # An unknown revision. A newer one has its metadata in the body; its client learns what is supported.
            return claims or head.session is None
        return claims

    # Modern.

    def _modern(self, exchange: Exchange, head: Head, message: Any) -> None:
        if message.method is codec.UNSET:
            raise refused(400, "Invalid request: clients send no responses in this revision of the protocol")
        if message.id is codec.UNSET:
            if head.version != MODERN:
                raise modern_request.unsupported_version(str(head.version))
            _compare_headers(head, message)
            exchange.reply(202, [])
            return
        method = message.method
        meta, name = modern_request.check_request(head, method, message.params)
        if method in LEGACY_ONLY:
            raise Failure(METHOD_NOT_FOUND, f"Method not found: {method}", status=404)
        if self.context.draining:
            raise _draining()
        main = self.pool.main
        if main is not None and main.alive:
            self._modern_call(exchange, head, message, meta, name)
        else:
            self.dispatcher.add_waiting()
            exchange.responder = AwaitingServer()
            waiting = self._modern_call_later(exchange, head, message, meta, name)
            self.context.spawn(waiting, "wait for the server")

    async def _modern_call_later(
        self, exchange: Exchange, head: Head, message: Any, meta: modern_request.RequestMeta, name: str
    ) -> None:
        try:
            await self.pool.wait_for_main()
            if exchange.live:
                self._modern_call(exchange, head, message, meta, name)
        except (Failure, codec.Malformed) as error:
            reply_failure(exchange, codec.id_json(message.id), _failure(error))
        finally:
            self.dispatcher.waiting -= 1

    def _modern_call(
        self, exchange: Exchange, head: Head, message: Any, meta: modern_request.RequestMeta, name: str
    ) -> None:
        method = message.method
        if method == "server/discover":
            self.context.metrics.call("modern", method, "ok", self.context.now() - exchange.started)
            answer = codec.encode(self.server_info.discover_answer())
            exchange.reply(200, codec.result_pieces(codec.id_json(message.id), answer))
        elif method == "subscriptions/listen":
            assert self.pool.main is not None
            self.hub.listen(exchange, head, message, meta, self.pool.main)
        else:
            if method == "tools/call" and (mirrored := self.param_headers.for_tool(self.server_info.tools, name)):
                check_param_headers(mirrored, head, message.params)
            self.dispatcher.send_modern(exchange, head, message, meta)

    # Legacy.

    def _legacy(self, exchange: Exchange, head: Head, message: Any) -> None:
        _compare_headers(head, message)
        if message.method == "initialize" and message.id is not codec.UNSET:
            if head.duplicated is not None:
                raise _duplicated(head.duplicated)
            if self.context.draining:
                raise unavailable("cannot open a session: the shim is stopping", "draining", 2)
            self.opener.open(exchange, message)
            return
        session = self._find_session(head)
        session.last_used = exchange.started
        if message.method is codec.UNSET:
            session.response(message)
        elif message.id is codec.UNSET:
            session.notification(message)
        else:
            if self.context.draining:
                raise _draining()
            session.request(exchange, message)
            return
        exchange.reply(202, [])

    def _find_session(self, head: Head) -> Session:
        """The session that a request belongs to; raises Failure."""
        if head.duplicated is not None:
            raise _duplicated(head.duplicated)
        if head.version is not None and head.version not in LEGACY:
            raise refused(400, f"MCP-Protocol-Version {head.version!r} is not supported in a session")
        if head.session is None:
            raise refused(400, "the header Mcp-Session-Id is missing; initialize first")
        session = self.sessions.get(head.session)
        if session is None:
            raise refused(404, "the session is not known here or has ended; initialize again")
        return session

    def _batch(self, exchange: Exchange, head: Head, body: bytes) -> None:
        if head.version not in BATCHING:
            raise refused(400, "Invalid request: this revision of the protocol has no batches")
        session = self._find_session(head)
        session.last_used = exchange.started
        messages = self._parse_batch(head, body)
        batch = Batch(exchange)
        for number, message in enumerate(messages):
            if message.method is not codec.UNSET and message.id is not codec.UNSET:
                self._message(batch.add_part(), head, message)
                continue
            try:
                (session.response if message.method is codec.UNSET else session.notification)(message)
            except Failure:
                if number == 0:
                    raise
                # The messages before it were sent, so a failure, which says that nothing was started, would be wrong.
                self.context.metrics.count("dropped_notifications")
        batch.close()

    def _parse_batch(self, head: Head, body: bytes) -> list[Any]:
        """The messages of a batch; raises Failure when the whole batch is refused."""
        try:
            raw_messages = codec.parse_batch(body)
        except codec.Malformed as error:
            raise refused(400, f"Parse error: {error}", PARSE_ERROR) from None
        if not 0 < len(raw_messages) <= MAX_BATCH:
            raise refused(400, f"Invalid request: a batch has 1 to {MAX_BATCH} messages")
        messages = [self._parse(raw) for raw in raw_messages]
        if any(message.method == "initialize" for message in messages):
            raise refused(400, "Invalid request: initialize can't be part of a batch", INVALID_REQUEST)
        for message in messages:
            if message.id is codec.UNSET:
                # A request is compared, and refused, on its own. A notification gets no answer: the batch is refused.
                _compare_headers(head, message)
        return messages


def _failure(error: Failure | codec.Malformed) -> Failure:
    """Spans of a message are decoded late and may turn out to be unreadable: a number too long, half a character."""
    return error if isinstance(error, Failure) else modern_request.invalid_params(f"the params can't be read ({error})")


def _draining() -> Failure:
    return unavailable("cannot take the call: the shim is stopping", "draining", 2)


def _duplicated(header: str) -> Failure:
    return modern_request.header_mismatch(f"the header {header} appears more than once")


def _compare_headers(head: Head, message: Any) -> None:
    """Compare a message with the modern headers that it has but does not need: a policy may have relied on them."""
    if message.method is codec.UNSET:
        return
    if head.mcp_method is not None and head.mcp_method != message.method:
        raise modern_request.header_mismatch(
            f"the header Mcp-Method says {head.mcp_method!r}, the body {message.method!r}"
        )
    if head.mcp_name is not None:
        params, _ = translation.split_meta(message.params)
        key = modern_request.NAME_KEYS.get(message.method, "")
        modern_request.check_single_spelling(key, params)
        name = codec.decode(params.get(key, b"null"))
        if name is None or modern_request.decode_header_value(head.mcp_name, strict=True) != name:
            raise modern_request.header_mismatch(f"the header Mcp-Name says {head.mcp_name!r}, the body {name!r}")
