"""One knock at a port: connect, perhaps shake hands, say something, and see what comes.

Under TLS 1.3 a server judges the client's certificate after the client has
finished its handshake, so a refusal is seen only when reading.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from mcpmesh.verify.finding import ANSWER_SECONDS

KNOCK_SECONDS = ANSWER_SECONDS

# Envoy adds it to what came from behind it. A service may well answer 403 itself,
# so only an answer without it is Envoy's own verdict.
FORWARDED = "x-envoy-upstream-service-time"

_TLS_ALERT = 0x15
_EARLY_SECONDS = 0.2
_HEAD_BYTES = 16 * 1024


class Outcome(StrEnum):
    """What came of a knock."""

    UNREACHABLE = "unreachable"  # nobody accepts connections
    CLOSED = "closed"  # the connection was ended without an answer: refused
    ANSWERED = "answered"
    SILENT = "silent"  # neither, for as long as we waited


@dataclass(frozen=True)
class Reply:
    """`said` is the answer's first line, or how the connection ended.

    `forwarded` says whether an HTTP answer came from behind an Envoy, `opened`
    whether there was a connection, its handshake included, to say something on.
    """

    outcome: Outcome
    said: str
    forwarded: bool = False
    opened: bool = True

    @property
    def status(self) -> int | None:
        """The HTTP status, None where the answer is none of HTTP."""
        words = self.said.split()
        http = self.outcome is Outcome.ANSWERED and len(words) > 1 and words[0].startswith("HTTP/")
        return int(words[1]) if http and words[1].isdigit() else None


def request(path: str, host: str = "127.0.0.1") -> bytes:
    """A GET of `path`, after which the connection is closed."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode()


async def knock(
    host: str,
    port: int,
    *,
    context: ssl.SSLContext | None,
    say: bytes,
    hold: float | None = None,
    seconds: float = KNOCK_SECONDS,
) -> Reply:
    """Never raises for what the other side does; `context` None means plain text. `seconds` bounds each step.

    With `hold` only a connection that stays open for so many seconds counts as answered, whatever was said on it
    before it ended.
    """
    loop = asyncio.get_running_loop()
    raw = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    raw.setblocking(False)
    try:
        await asyncio.wait_for(loop.sock_connect(raw, (host, port)), seconds)
    except (OSError, TimeoutError) as error:
        raw.close()
        return Reply(Outcome.UNREACHABLE, _words(error), opened=False)
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(sock=raw, ssl=context, server_hostname=host if context else None), seconds
        )
    except TimeoutError:
        raw.close()
        return Reply(Outcome.SILENT, f"no handshake within {seconds:.0f} s", opened=False)
    except OSError as error:
        raw.close()
        return Reply(Outcome.CLOSED, f"the handshake failed: {_words(error)}", opened=False)
    except asyncio.CancelledError:
        raw.close()
        raise
    try:
        return await (_talk(reader, writer, say, seconds) if hold is None else _listen(reader, writer, say, hold))
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, say: bytes, seconds: float) -> Reply:
    try:
        heard = await _early(reader)
        if heard is None:
            writer.write(say)
            heard = await asyncio.wait_for(_head(reader), seconds)
    except TimeoutError:
        return Reply(Outcome.SILENT, f"open and silent for {seconds:.0f} s")
    except OSError as error:
        return Reply(Outcome.CLOSED, f"the connection was broken off: {_words(error)}")
    if not heard:
        return Reply(Outcome.CLOSED, "the connection was closed")
    if heard[0] == _TLS_ALERT:
        return Reply(Outcome.CLOSED, "the connection was ended with a TLS alert")
    first, *rest = heard.decode(errors="replace").split("\r\n")
    names = {line.partition(":")[0].strip().lower() for line in rest}
    return Reply(Outcome.ANSWERED, first[:200], FORWARDED in names)


async def _listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, say: bytes, seconds: float) -> Reply:
    heard = b""
    try:
        async with asyncio.timeout(seconds):
            writer.write(say)
            while more := await reader.read(_HEAD_BYTES):
                heard = (heard + more)[:_HEAD_BYTES]
            how = "the connection was closed"
    except TimeoutError:
        outcome = Outcome.ANSWERED if heard else Outcome.SILENT
        return Reply(outcome, f"open for {seconds:.0f} s{_quoted(heard)}")
    except OSError as error:
        how = f"the connection was broken off: {_words(error)}"
    return Reply(Outcome.CLOSED, how + _quoted(heard))


async def _early(reader: asyncio.StreamReader) -> bytes | None:
    """What comes before anything was said; None where nothing does for a moment.

    A refusal is on its way as an alert that says why, and writing into it would lose that.
    """
    try:
        return await asyncio.wait_for(reader.read(_HEAD_BYTES), _EARLY_SECONDS)
    except TimeoutError:
        return None


def _quoted(heard: bytes) -> str:
    return f" after {heard[:40].decode(errors='replace')!r} was heard" if heard else ""


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The head of an HTTP answer, or the first bytes of anything else."""
    data = b""
    while len(data) < _HEAD_BYTES and b"\r\n\r\n" not in data:
        more = await reader.read(_HEAD_BYTES)
        data += more
        if not more or not data.startswith(b"HTTP/"[: len(data)]):
            break
    return data.partition(b"\r\n\r\n")[0]


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
