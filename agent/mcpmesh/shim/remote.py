"""A remote Streamable HTTP server, spoken to as if it were a process on stdio.

Each line written becomes a POST, each message of its answers a line read; the
older protocol's session and its GET stream are kept here. So everything above
(eras, isolation, sessions, metrics) is the same for remote servers. A remote
that can't be reached ends this "process", and the supply starts another.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final

from mcpmesh.shim import wire
from mcpmesh.shim.failure import INTERNAL_ERROR
from mcpmesh.shim.lines import KEPT_BYTES
from mcpmesh.shim.modern import NAMED
from mcpmesh.shim.parameters import Mirrors, argument
from mcpmesh.shim.process import Exit, Tail

if TYPE_CHECKING:
    import httpx

    from mcpmesh.shim.config import Config
    from mcpmesh.shim.profile import Profile

CONNECT_SECONDS: Final = 10.0
# Between two tries to open the older protocol's GET stream.
LISTEN_SECONDS: Final = 2.0
ERROR_CHARACTERS: Final = 300
_HEADER_SAFE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_ENCODED = re.compile(r"=\?base64\?.*\?=")
TRACE: Final = ("traceparent", "tracestate", "baggage")


def header_value(text: str) -> str:
    """A value as the modern transport carries it in a header."""
    if (not text or _HEADER_SAFE.fullmatch(text)) and not _ENCODED.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


class RemoteServer:
    """Behaves as a ServerProcess."""

    def __init__(self, config: Config, profile: Profile, line_bytes: int) -> None:
        import httpx

        assert config.url is not None
        self.config = config
        self.profile = profile
        self.url = config.url
        self.line_bytes = line_bytes
        self.tail = Tail()
        self.pid = 0
        self.exit: Exit | None = None
        self.on_line: Callable[[bytes], None] = self.tail.add
        self.on_exit: Callable[[Exit], None] = lambda _: None
        self.on_oversize: Callable[[bytes, bytes, int], None] = lambda *_: None
        self.gone = asyncio.Event()
        self._mirrors = Mirrors()
        self._session: str | None = None
        self._version: str | None = None
        self._posts: dict[wire.Id, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Future[None] | None = None
        timeout = httpx.Timeout(config.request_seconds, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        # Not followed elsewhere: the configured headers are for this server only.
        self._client = httpx.AsyncClient(timeout=timeout, limits=limits, follow_redirects=False)

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
        message = wire.parse(line)
        modern = b'"' + wire.VERSION_KEY.encode() + b'"' in line
        if message.method == "notifications/cancelled" and self._version is None:
            # In the modern era closing the stream is the cancel.
            self._cancel(message)
            return
        task = asyncio.create_task(self._post(message, line[:-1], modern), name="remote call")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if message.method is not wire.UNSET and isinstance(message.id, int | str):
            id = message.id
            self._posts[id] = task
            task.add_done_callback(lambda _: self._posts.pop(id, None))

    def _cancel(self, message: Any) -> None:
        id = wire.value(wire.members(message.params).get("requestId", b"null"))
        if (task := self._posts.get(id)) is not None:
            task.cancel()

    async def _post(self, message: Any, body: bytes, modern: bool) -> None:
        import httpx

        asked = message.method is not wire.UNSET and message.id is not wire.UNSET
        answered = False
        try:
            headers = {**self.config.headers, **self._headers(message, modern)}
        except wire.Malformed as error:
            if asked:
                self._fail(message.id, f"cannot send the call to the remote server, nothing was started: {error}")
            return
        try:
            async with self._client.stream("POST", self.url, content=body, headers=headers) as response:
                if message.method == "initialize" and (session := response.headers.get("mcp-session-id")):
                    self._session = session
                if response.status_code == 404 and self._session is not None:
                    self._end(Exit(error="ended the session (HTTP 404)"))
                    return
                async for line in self._lines(response):
                    answered = self._line(line, message) or answered
                if asked and not answered:
                    self._fail(message.id, f"the remote server answered HTTP {response.status_code} without a result")
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                self._end(Exit(error=f"cannot be reached at {self._place()} ({reason})"))
            elif asked:
                self._fail(message.id, f"the connection to the remote server broke ({reason}); the call may have run")

    def _place(self) -> str:
        # Without its query, which may carry a key.
        return self.url.partition("?")[0]

    def _headers(self, message: Any, modern: bool) -> dict[str, str]:
        headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        whole: dict[str, Any] = {}
        meta: dict[str, Any] = {}
        if message.params:
            whole = wire.members(message.params)
            meta = wire.members(whole["_meta"]) if "_meta" in whole else {}
        for key in TRACE:
            if key in meta and isinstance(value := wire.value(meta[key]), str) and _HEADER_SAFE.fullmatch(value):
                headers[key] = value
        if modern and wire.VERSION_KEY in meta:
            headers["mcp-protocol-version"] = str(wire.value(meta[wire.VERSION_KEY]))
            headers["mcp-method"] = str(message.method)
            named = NAMED.get(message.method)
            if named is not None and named in whole:
                name = str(wire.value(whole[named]))
                headers["mcp-name"] = header_value(name)
                if message.method == "tools/call":
                    headers.update(self._mirrored(name, whole))
            return headers
        if self._session is not None:
            headers["mcp-session-id"] = self._session
        if self._version is not None:
            headers["mcp-protocol-version"] = self._version
        return headers

    def _mirrored(self, tool: str, params: dict[str, Any]) -> dict[str, str]:
        headers: dict[str, str] = {}
        for parameter in self._mirrors.of(self.profile.tools, tool):
            value = argument(params.get("arguments", b"{}"), parameter.path)
            if isinstance(value, bool):
                value = "true" if value else "false"
            if isinstance(value, str | int | float):
                headers[parameter.header.decode()] = header_value(str(value))
        return headers

    async def _lines(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The messages of an answer."""
        media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media == "text/event-stream":
            async for line in events(response.aiter_bytes(), self.line_bytes):
                yield line
            return
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self.line_bytes:
                self.on_oversize(bytes(body[:KEPT_BYTES]), bytes(body[-KEPT_BYTES:]), len(body))
                return
        if media == "application/json" and body.strip():
            yield wire.one_line(bytes(body))
        elif response.status_code >= 400:
            self.tail.add(f"HTTP {response.status_code} {bytes(body[:ERROR_CHARACTERS])!r}".encode())

    def _line(self, line: bytes, asked: Any) -> bool:
        """Hand on a message; True when it is the answer to what was asked."""
        try:
            message = wire.parse(line)
        except wire.Malformed:
            self.tail.add(line)
            return False
        if asked.method == "initialize" and message.id == asked.id and message.result:
            version = wire.value(wire.members(message.result).get("protocolVersion", b"null"))
            self._version = version if isinstance(version, str) else None
            self._listen()
        self.on_line(line)
        return message.method is wire.UNSET and message.id == asked.id

    def _listen(self) -> None:
        task = asyncio.create_task(self._listening(), name="remote stream")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listening(self) -> None:
        """The older protocol's GET stream, as long as the server offers it."""
        import httpx

        while self.exit is None:
            headers = {**self.config.headers, "accept": "text/event-stream"}
            if self._session is not None:
                headers["mcp-session-id"] = self._session
            if self._version is not None:
                headers["mcp-protocol-version"] = self._version
            try:
                async with self._client.stream("GET", self.url, headers=headers) as response:
                    if response.status_code != 200:
                        return
                    async for line in events(response.aiter_bytes(), self.line_bytes):
                        self.on_line(line)
            except httpx.HTTPError as error:
                self.tail.add(f"the stream broke: {type(error).__name__}".encode())
            await asyncio.sleep(LISTEN_SECONDS)

    def _fail(self, id: wire.Id, message: str) -> None:
        error = wire.error_body(INTERNAL_ERROR, message, {"reason": "remote"})
        self.on_line(b"".join(map(bytes, wire.error_pieces(wire.id_json(id), error))))

    def pause(self) -> None:
        """Answers are read as they come."""

    def resume(self) -> None:
        """See pause."""

    async def stop(self, step_seconds: float) -> None:
        """End the session there."""
        import httpx

        if self._session is not None and self.exit is None:
            headers = {**self.config.headers, "mcp-session-id": self._session}
            try:
                async with asyncio.timeout(step_seconds):
                    await self._client.delete(self.url, headers=headers)
            except (httpx.HTTPError, TimeoutError):
                self.tail.add(b"the session could not be ended")
        self._end(Exit(code=0))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._closing is not None:
            await self._closing

    def terminate(self) -> None:
        """No process to signal."""

    def kill(self) -> None:
        """Give it up."""
        self._end(Exit(error="did not answer"))

    def _end(self, exit: Exit) -> None:
        if self.exit is not None:
            return
        self.exit = exit
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        self._closing = asyncio.ensure_future(self._client.aclose())
        self.gone.set()
        self.on_exit(exit)


async def events(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """The data of each server-sent event; those over the limit are dropped."""
    buffer = b""
    data: list[bytes] = []
    async for chunk in chunks:
        buffer += chunk
        if len(buffer) > limit:
            buffer = b""
        *lines, buffer = re.split(rb"\r\n|\n|\r(?!\Z)", buffer)
        for line in lines:
            if not line:
                if data:
                    yield b"\n".join(data).replace(b"\n", b" ")
                data = []
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
