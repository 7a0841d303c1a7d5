"""One connection to a port: connect, shake hands where TLS is asked for, send something, and see what comes back.

Under TLS 1.3 a server judges the client's certificate after the client has
finished its handshake. Its refusal is therefore seen only when reading.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from mcpmesh.verify.time_limits import ANSWER_SECONDS

# Envoy adds this header to what came from the service behind it. A service may well answer 403 itself;
# only an answer without the header is Envoy's own verdict.
FORWARDED = "x-envoy-upstream-service-time"

_TLS_ALERT = 0x15
EARLY_SECONDS = 0.2
_HEAD_BYTES = 16 * 1024
_QUOTED_BYTES = 40


class Outcome(StrEnum):
    """How the connection went."""

    UNREACHABLE = "unreachable"  # it was not accepted
    CLOSED = "closed"  # it was ended without an answer: a refusal
    ANSWERED = "answered"
    SILENT = "silent"  # it stayed open without an answer until the time limit


@dataclass(frozen=True)
class Reply:
    """`text` is the first line of the answer, or how the connection ended.

    `forwarded` is whether an HTTP answer came from a service behind an Envoy.
    `opened` is whether the connection was there to send on, its handshake included.
    """

    outcome: Outcome
    text: str
    forwarded: bool = False
    opened: bool = True

    @property
    def status(self) -> int | None:
        """The HTTP status; None where the answer is not HTTP."""
        words = self.text.split()
        http = self.outcome is Outcome.ANSWERED and len(words) > 1 and words[0].startswith("HTTP/")
        return int(words[1]) if http and words[1].isdigit() else None


def get_request(path: str, host: str = "127.0.0.1") -> bytes:
    """A GET of `path`, after which the server closes the connection."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode()


async def probe(
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None,
    payload: bytes,
    hold_seconds: float | None = None,
    step_seconds: float = ANSWER_SECONDS,
    early_seconds: float = EARLY_SECONDS,
) -> Reply:
    """Sends `payload`, in plain text where `tls` is None. Never raises for what the other side does.

    `step_seconds` limits each step: connecting, the handshake, and the answer. With `hold_seconds` only a
    connection that stays open for so long counts as answered, whatever came before its end. Without it, the payload
    is sent only when the other side has sent nothing for `early_seconds`.
    """
    loop = asyncio.get_running_loop()
    raw = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    raw.setblocking(False)
    try:
        await asyncio.wait_for(loop.sock_connect(raw, (host, port)), step_seconds)
    except (OSError, TimeoutError) as error:
        raw.close()
        return Reply(Outcome.UNREACHABLE, _error_text(error), opened=False)
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(sock=raw, ssl=tls, server_hostname=host if tls else None), step_seconds
        )
    except TimeoutError:
        raw.close()
        return Reply(Outcome.SILENT, f"no handshake within {step_seconds:.0f} s", opened=False)
    except OSError as error:
        raw.close()
        return Reply(Outcome.CLOSED, f"the handshake failed: {_error_text(error)}", opened=False)
    except asyncio.CancelledError:
        raw.close()
        raise
    try:
        if hold_seconds is None:
            return await _ask(reader, writer, payload, step_seconds, early_seconds)
        return await _watch(reader, writer, payload, hold_seconds)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, payload: bytes, seconds: float, early_seconds: float
) -> Reply:
    """Sends the payload and reads one answer."""
    try:
        answer = await _read_early(reader, early_seconds)
        if answer is None:
            writer.write(payload)
            answer = await asyncio.wait_for(_read_head(reader), seconds)
    except TimeoutError:
        return Reply(Outcome.SILENT, f"open and silent for {seconds:.0f} s")
    except OSError as error:
        return Reply(Outcome.CLOSED, f"the connection was broken off: {_error_text(error)}")
    if not answer:
        return Reply(Outcome.CLOSED, "the connection was closed")
    if answer[0] == _TLS_ALERT:
        return Reply(Outcome.CLOSED, "the connection was ended with a TLS alert")
    first, *rest = answer.decode(errors="replace").split("\r\n")
    headers = {line.partition(":")[0].strip().lower() for line in rest}
    return Reply(Outcome.ANSWERED, first[:200], FORWARDED in headers)


async def _watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, payload: bytes, seconds: float) -> Reply:
    """Sends the payload and sees whether the connection stays open for `seconds`."""
    received = b""
    try:
        async with asyncio.timeout(seconds):
            writer.write(payload)
            while chunk := await reader.read(_HEAD_BYTES):
                received = (received + chunk)[:_HEAD_BYTES]
            end = "the connection was closed"
    except TimeoutError:
        outcome = Outcome.ANSWERED if received else Outcome.SILENT
        return Reply(outcome, f"open for {seconds:.0f} s{_quoted(received)}")
    except OSError as error:
        end = f"the connection was broken off: {_error_text(error)}"
    return Reply(Outcome.CLOSED, end + _quoted(received))


async def _read_early(reader: asyncio.StreamReader, seconds: float) -> bytes | None:
    """What the other side sends first; None where it sends nothing for `seconds`.

    A refusal arrives as a TLS alert that names its reason. Sending first would lose that alert.
    """
    try:
        return await asyncio.wait_for(reader.read(_HEAD_BYTES), seconds)
    except TimeoutError:
        return None


def _quoted(received: bytes) -> str:
    return f" after {received[:_QUOTED_BYTES].decode(errors='replace')!r} was received" if received else ""


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    """The head of an HTTP answer, or the first bytes of anything else."""
    data = b""
    while len(data) < _HEAD_BYTES and b"\r\n\r\n" not in data:
        chunk = await reader.read(_HEAD_BYTES)
        data += chunk
        if not chunk or not data.startswith(b"HTTP/"[: len(data)]):
            break
    return data.partition(b"\r\n\r\n")[0]


def _error_text(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
