"""A remote Streamable HTTP server, spoken to as if it were a process on stdio.

Each line written becomes a POST, each message of its answers a line read; the
older protocol's session and its GET stream are kept here. So everything above
(eras, isolation, sessions, metrics) is the same for remote servers. A remote
that can't be reached ends this "process", and the supply starts another.

Of cookies only those are kept that came with the answer to `initialize`: they
belong to the session, as its id does, and load balancers find its server by
them. Any other answer is one caller's, whose cookies no other may send.
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
# Between two tries to open the older protocol's GET stream.
LISTEN_SECONDS: Final = 2.0
ERROR_CHARACTERS: Final = 300


class RemoteHttpServer:
    """Behaves as a StdioProcess."""

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
        # Not followed elsewhere: the configured headers are for this server only.
        self._client = httpx.AsyncClient(
            timeout=timeout,
            limits=limits,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    @property
    def waiting_bytes(self) -> int:
        """Nothing waits here: each message has its own connection."""
        return 0

    async def start(self) -> None:
        """Nothing to start: the first message shows whether it is there."""

    def write(self, line: bytes) -> None:
        """Send one message."""
        if self.exit is not None:
            return
        message = codec.parse(line)
        if message.method == "notifications/cancelled" and self._headers.version is None:
            # In the modern era closing the stream is the cancel.
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
            told = "".join(traceback.format_exception(error))
            log("a bug in a %s, please report it: %s", task.get_name(), told)

    async def _post(self, message: Any, body: bytes) -> None:
        asked = message.method is not codec.UNSET and message.id is not codec.UNSET
        try:
            await self._exchange(message, body, self._headers.for_message(message), asked)
        except codec.Malformed as error:
            if asked:
                told = f"cannot send the call to the remote server, nothing was started: {error}"
                self._fail(message.id, told, started=False)
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                self._end(ServerExit(error=f"cannot be reached at {self._address()} ({reason})"))
            elif asked:
                self._fail(message.id, f"the connection to the remote server broke ({reason}); the call may have run")
        except Exception:
            if asked:
                self._fail(message.id, "the shim failed at the call to the remote server, which may have run")
            raise

    async def _exchange(self, message: Any, body: bytes, headers: dict[str, str], asked: bool) -> None:
        """One POST and what comes of it; raises HTTPError."""
        answered = False
        async with self._client.stream("POST", self.url, content=body, headers=headers) as response:
            if message.method == "initialize":
                self._keep_session(response)
            if response.status_code == 404 and self._headers.session_id is not None:
                self._end(ServerExit(error="ended the session (HTTP 404)"))
                return
            async for line in self._lines(response):
                if isinstance(line, OversizeEvent):
                    answered = self._too_long(line, message.id if asked else None) or answered
                else:
                    answered = self._line(line, message) or answered
            if asked and not answered:
                self._fail(message.id, f"the remote server answered HTTP {response.status_code} without a result")

    def _keep_session(self, response: httpx.Response) -> None:
        session = response.headers.get("mcp-session-id", "")
        if session and HEADER_VALUE.fullmatch(session):
            self._headers.session_id = session
        cookies = httpx.Cookies()
        cookies.extract_cookies(response)
        self._client.cookies.update(cookies)

    def _address(self) -> str:
        # Without its query, which may carry a key.
        return self.url.partition("?")[0]

    async def _lines(self, response: httpx.Response) -> AsyncIterator[bytes | OversizeEvent]:
        """The messages of an answer."""
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

    def _line(self, line: bytes, asked: Any) -> bool:
        """Hand on a message; True when it is the answer to what was asked."""
        try:
            message = codec.parse(line)
        except codec.Malformed:
            self.tail.add(line)
            return False
        if asked.method == "initialize" and message.id == asked.id and message.result:
            self._opened(message.result)
        self._emit(line)
        return message.method is codec.UNSET and message.id == asked.id

    def _opened(self, result: codec.Buffer) -> None:
        """The older protocol's session is open, unless who asked for it finds fault with the answer."""
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
            # It would end the stream, and with it what else comes there.
            log("a bug in what takes a server's line, please report it: %s", traceback.format_exc())

    def _too_long(self, found: OversizeEvent, call: codec.Id | None) -> bool:
        """A message over the limit; True when it was the answer to the call on whose stream it came."""
        begins = found.head[:256]
        if call is None or (b'"method"' in begins and b'"result"' not in begins):
            self.on_oversize(b'{"method":', b"", found.size)
            return False
        # Nothing but a call's own answer can be there, wherever in it the id stands.
        self.on_oversize(b'{"id":%b,' % codec.id_json(call), b"", found.size)
        return True

    async def _read_stream(self) -> None:
        """The older protocol's GET stream, as long as the server offers it."""
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
            await asyncio.sleep(LISTEN_SECONDS)

    def _fail(self, id: codec.Id, message: str, started: bool = True) -> None:
        error = codec.error_body(INTERNAL_ERROR, message, {"reason": "remote", "started": started})
        self._emit(b"".join(map(bytes, codec.error_pieces(codec.id_json(id), error))))

    def pause(self) -> None:
        """Answers are read as they come."""

    def resume(self) -> None:
        """See pause."""

    async def stop(self, step_seconds: float) -> None:
        """End the session there."""
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

    def terminate(self) -> None:
        """No process to signal."""

    def kill(self) -> None:
        """Give it up."""
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
