"""A remote Streamable HTTP server as a channel, used like a process on stdio.

Each line written becomes a POST, each message in its answers becomes a line
read; the legacy session with its GET stream is kept here. So everything above
(eras, isolation, sessions, metrics) works the same for remote servers. When the
remote server can't be reached the channel exits, and the pool opens another.

Only cookies of the answer to `initialize` are kept: they belong to the session,
like its id, and load balancers find its server by them. Other answers belong to
one caller each, and no other caller may send their cookies.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final

import httpx

from mcpmesh.shim.config import HEADER_VALUE
from mcpmesh.shim.errors import INTERNAL_ERROR
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.jsonrpc.framing import END_BYTES
from mcpmesh.shim.log import log
from mcpmesh.shim.server.channel import OutputTail, ServerExit
from mcpmesh.shim.server.remote_headers import RemoteHeaders
from mcpmesh.shim.server.sse import OversizeEvent, read_events

if TYPE_CHECKING:
    from mcpmesh.shim.config import Config
    from mcpmesh.shim.protocol.server_info import ServerInfo

CONNECT_SECONDS: Final = 10.0
# Between two tries to open the GET stream of a legacy session.
STREAM_RETRY_SECONDS: Final = 2.0
ERROR_CHARACTERS: Final = 300


class RemoteHttpServer:
    """A channel to a remote server."""

    def __init__(self, config: Config, server_info: ServerInfo, line_bytes: int) -> None:
        assert config.url is not None
        self.url = config.url
        self.line_bytes = line_bytes
        self.tail = OutputTail()
        self.pid = 0
        self.exit: ServerExit | None = None
        self.on_line: Callable[[bytes], None] = self.tail.add
        self.on_exit: Callable[[ServerExit], None] = lambda _: None
        self.on_oversize: Callable[[bytes, bytes, int], None] = lambda *_: None
        self.exited = asyncio.Event()
        self._headers = RemoteHeaders(config.headers, server_info)
        self._posts: dict[codec.Id, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Future[None] | None = None
        timeout = httpx.Timeout(config.request_seconds, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        # Redirects are not followed: the configured headers are for this server only.
        self._client = httpx.AsyncClient(
            timeout=timeout,
            limits=limits,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    @property
    def waiting_bytes(self) -> int:
        """Nothing waits here: each message has a connection of its own."""
        return 0

    async def start(self) -> None:
        """Nothing to start: the first message shows whether the server can be reached."""

    def write(self, line: bytes) -> None:
        """Send one message in a POST."""
        if self.exit is not None:
            return
        message = codec.parse(line)
        if message.method == "notifications/cancelled" and self._headers.version is None:
            # In the modern era a call is cancelled by closing its stream.
            self._cancel(message)
            return
        task = self._spawn(self._post(message, line[:-1]), "remote call")
        if message.method is not codec.UNSET and isinstance(message.id, int | str):
            id = message.id
            self._posts[id] = task
            task.add_done_callback(lambda _: self._posts.pop(id, None))

    def _cancel(self, message: Any) -> None:
        id = codec.decode(codec.members(message.params).get("requestId", b"null"))
        if (task := self._posts.get(id)) is not None:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            trace = "".join(traceback.format_exception(error))
            log("a bug in a %s, please report it: %s", task.get_name(), trace)

    async def _post(self, message: Any, body: bytes) -> None:
        is_request = message.method is not codec.UNSET and message.id is not codec.UNSET
        try:
            await self._exchange(message, body, self._headers.for_message(message), is_request)
        except codec.Malformed as error:
            if is_request:
                sentence = f"cannot send the call to the remote server, nothing was started: {error}"
                self._fail(message.id, sentence, started=False)
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                self._end(ServerExit(error=f"cannot be reached at {self._address()} ({reason})"))
            elif is_request:
                self._fail(message.id, f"the connection to the remote server broke ({reason}); the call may have run")
        except Exception:
            if is_request:
                self._fail(message.id, "the shim failed at the call to the remote server, which may have run")
            raise

    async def _exchange(self, message: Any, body: bytes, headers: dict[str, str], is_request: bool) -> None:
        """Send one POST and emit the messages of its answer; raises HTTPError."""
        answered = False
        async with self._client.stream("POST", self.url, content=body, headers=headers) as response:
            if message.method == "initialize":
                self._keep_session(response)
            if response.status_code == 404 and self._headers.session_id is not None:
                self._end(ServerExit(error="ended the session (HTTP 404)"))
                return
            async for line in self._lines(response):
                if isinstance(line, OversizeEvent):
                    answered = self._too_long(line, message.id if is_request else None) or answered
                else:
                    answered = self._line(line, message) or answered
            if is_request and not answered:
                self._fail(message.id, f"the remote server answered HTTP {response.status_code} without a result")

    def _keep_session(self, response: httpx.Response) -> None:
        session = response.headers.get("mcp-session-id", "")
        if session and HEADER_VALUE.fullmatch(session):
            self._headers.session_id = session
        cookies = httpx.Cookies()
        cookies.extract_cookies(response)
        self._client.cookies.update(cookies)

    def _address(self) -> str:
        # Without the query, which may hold a key.
        return self.url.partition("?")[0]

    async def _lines(self, response: httpx.Response) -> AsyncIterator[bytes | OversizeEvent]:
        """The messages in an answer."""
        media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media == "text/event-stream":
            async for line in read_events(response.aiter_bytes(), self.line_bytes):
                yield line
            return
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self.line_bytes:
                yield OversizeEvent(bytes(body[:END_BYTES]), len(body))
                return
        if media == "application/json" and body.strip():
            yield codec.one_line(bytes(body))
        elif response.status_code >= 400:
            self.tail.add(f"HTTP {response.status_code} {bytes(body[:ERROR_CHARACTERS])!r}".encode())

    def _line(self, line: bytes, sent: Any) -> bool:
        """Emit a message; returns whether it is the answer to the message `sent`."""
        try:
            message = codec.parse(line)
        except codec.Malformed:
            self.tail.add(line)
            return False
        if sent.method == "initialize" and message.id == sent.id and message.result:
            self._opened(message.result)
        self._emit(line)
        return message.method is codec.UNSET and message.id == sent.id

    def _opened(self, result: codec.Buffer) -> None:
        """The answer to `initialize` arrived: a legacy session is open, unless the handshake rejects the answer."""
        try:
            version = codec.decode(codec.members(result).get("protocolVersion", b"null"))
        except codec.Malformed:
            return
        if isinstance(version, str) and HEADER_VALUE.fullmatch(version):
            self._headers.version = version
        self._spawn(self._read_stream(), "remote stream")

    def _emit(self, line: bytes) -> None:
        try:
            self.on_line(line)
        except Exception:
            # The exception would end the stream, and lose the messages after this one.
            log("a bug in the handling of a server's line, please report it: %s", traceback.format_exc())

    def _too_long(self, found: OversizeEvent, call: codec.Id | None) -> bool:
        """A message over the limit; returns whether it was the answer to `call`, on whose stream it came."""
        start = found.head[:256]
        if call is None or (b'"method"' in start and b'"result"' not in start):
            self.on_oversize(b'{"method":', b"", found.size)
            return False
        # On this stream it can only be the answer to this call, wherever its id is.
        self.on_oversize(b'{"id":%b,' % codec.id_json(call), b"", found.size)
        return True

    async def _read_stream(self) -> None:
        """Read the GET stream of a legacy session, as long as the server offers it."""
        while self.exit is None:
            headers = {**self._headers.for_session(), "accept": "text/event-stream"}
            try:
                async with self._client.stream("GET", self.url, headers=headers) as response:
                    if response.status_code != 200:
                        return
                    async for line in read_events(response.aiter_bytes(), self.line_bytes):
                        if isinstance(line, OversizeEvent):
                            self._too_long(line, None)
                        else:
                            self._emit(line)
            except httpx.HTTPError as error:
                self.tail.add(f"the stream broke: {type(error).__name__}".encode())
            await asyncio.sleep(STREAM_RETRY_SECONDS)

    def _fail(self, id: codec.Id, message: str, started: bool = True) -> None:
        error = codec.error_body(INTERNAL_ERROR, message, {"reason": "remote", "started": started})
        self._emit(b"".join(map(bytes, codec.error_pieces(codec.id_json(id), error))))

    def pause(self) -> None:
        """Nothing to do: answers are read as they arrive."""

    def resume(self) -> None:
        """See pause."""

    async def stop(self, step_seconds: float) -> None:
        """End the session at the server, and close all connections."""
        if self._headers.session_id is not None and self.exit is None:
            try:
                async with asyncio.timeout(step_seconds):
                    await self._client.delete(self.url, headers=self._headers.for_session())
            except (httpx.HTTPError, TimeoutError):
                self.tail.add(b"the session could not be ended")
        self._end(ServerExit(code=0))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._closing is not None:
            await self._closing

    def kill(self) -> None:
        """Give the server up, because it does not answer."""
        self._end(ServerExit(error="did not answer"))

    def _end(self, exit: ServerExit) -> None:
        if self.exit is not None:
            return
        self.exit = exit
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        self._closing = asyncio.ensure_future(self._client.aclose())
        self.exited.set()
        self.on_exit(exit)
