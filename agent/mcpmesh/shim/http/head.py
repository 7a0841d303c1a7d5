"""A request's head, read once: what the shim decides on before it looks at the body.

httptools parses (and refuses what is ambiguous: two lengths, bad names, both
framings). `Host` and `Origin` are checked here, against DNS rebinding: loopback
names with any port are always right, others by configuration. Where the target
names a host itself (absolute form), that one counts (RFC 9112, 3.2.2).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

import httptools

LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))
SINGLE: Final = frozenset((b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"mcp-session-id"))
LISTED: Final = frozenset((b"accept", b"connection", b"content-encoding"))
# What requests of one client differ in. Those of Envoy and Kong are nothing to the shim.
VARYING: Final = (b"content-length", b"mcp-session-id", b"x-request-id", b"x-kong-request-id")
_VALUE = re.compile(rb"[!-~]{1,128}")
# A length has no more digits than this; what has is parsed, and refused, in full.
MAX_DIGITS: Final = 12
# A chunked body's framing, between two of its bytes, and its trailers are no longer than this.
FRAMING_BYTES: Final = 64 * 1024
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)([^?#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
TRACE: Final = (b"traceparent", b"tracestate", b"baggage")


class BadHead(Exception):
    """Not an HTTP request that we take; `status` says which kind of wrong."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Head:
    """The parsed head of one request."""

    __slots__ = (
        "accepts_json",
        "accepts_sse",
        "body_json",
        "chunked",
        "duplicated",
        "encoded",
        "expects",
        "headers",
        "http10",
        "keep_alive",
        "length",
        "mcp_method",
        "mcp_name",
        "method",
        "path",
        "session",
        "traced",
        "version",
        "wrong",
    )

    def __init__(self, parser: httptools.HttpRequestParser, url: bytes, pairs: list[tuple[bytes, bytes]]) -> None:
        self.method: bytes = parser.get_method()
        self.http10 = parser.get_http_version() == "1.0"
        absolute = _ABSOLUTE.match(url)
        self.path = absolute[2] if absolute else url.partition(b"?")[0]
        self.duplicated: str | None = None
        headers: dict[bytes, bytes] = {}
        for name, text in pairs:
            key = name.lower()
            headers[key] = text if key not in headers else self._repeated(name, headers[key], text)
        if absolute and b"host" in headers:
            headers[b"host"] = absolute[1]
        self.headers = headers
        get = headers.get
        # Of a request without a body the parser has forgotten by now that its connection is to be closed.
        closes = b"close" in [option.strip() for option in get(b"connection", b"").lower().split(b",")]
        self.keep_alive: bool = parser.should_keep_alive() and not closes
        length = get(b"content-length")
        self.length = int(length) if length is not None else 0
        self.chunked = b"transfer-encoding" in headers
        self.expects = get(b"expect", b"").lower() == b"100-continue"
        self.session = _text(get(b"mcp-session-id"))
        self.version = _text(get(b"mcp-protocol-version"))
        self.mcp_method = _text(get(b"mcp-method"))
        self.mcp_name = _text(get(b"mcp-name"))
        self.accepts_json, self.accepts_sse = _accepts(get(b"accept", b""))
        self.encoded = get(b"content-encoding", b"identity").lower() != b"identity"
        self.body_json = _is_json(get(b"content-type", b"")) and not self.encoded
        self.traced = not headers.keys().isdisjoint(TRACE)
        self.wrong: tuple[int, str] | None = None

    def _repeated(self, name: bytes, first: bytes, text: bytes) -> bytes:
        """What counts of a header that appears again."""
        key = name.lower()
        if key in (b"host", b"origin", b"content-type"):
            raise BadHead(400, f"the header {key.decode()} appears twice")
        if key in SINGLE or key.startswith(b"mcp-param-"):
            self.duplicated = name.decode("latin-1")
        return first + b"," + text if key in LISTED else text


class Known:
    """A head that was parsed. Most requests repeat one but for their body's length, their session and a proxy's id."""

    __slots__ = ("_after", "_before", "_first", "_rest", "head")

    def __init__(self, head: Head, data: bytes) -> None:
        """`data` is the whole head with its empty line; it must not announce a chunked body."""
        self.head = head
        spots: list[tuple[int, int, bytes]] = []
        lowered = data.lower()
        # A header that appears twice means something else than one that appears once.
        for name in VARYING if head.duplicated is None else ():
            if name in head.headers and (found := lowered.find(b"\r\n%b: " % name)) >= 0:
                start = found + len(name) + 4
                end = start + len(head.headers[name])
                if data[start : end + 2] == head.headers[name] + b"\r\n":
                    spots.append((start, end, name))
        spots.sort()
        self._first = data[: spots[0][0]] if spots else data
        # Each varying header's name, and what stands between its value and the next one's.
        stops = [*(start for start, _, _ in spots[1:]), len(data)]
        self._rest = [(name, data[end:stop]) for (_, end, name), stop in zip(spots, stops, strict=False)]
        self._stand(data, next(((start, end) for start, end, name in spots if name == b"content-length"), None))

    def _stand(self, data: bytes, length: tuple[int, int] | None) -> None:
        """This is what it is now: all of `data` but the digits of the length."""
        self._before, self._after = (data[: length[0]], data[length[1] :]) if length else (data, b"")

    def end_in(self, data: bytes) -> int:
        """Where the head ends if `data` begins with it; 0 if it does not. What varies is then as `data` has it."""
        start = len(self._before)
        if not data.startswith(self._before):
            return self._end_of_like(data)
        if not self._after:
            return start
        stop = data.find(b"\r", start, start + MAX_DIGITS)
        digits = data[start:stop]
        if stop < 0 or not digits.isdigit() or not data.startswith(self._after, stop):
            return self._end_of_like(data)
        self.head.length = int(digits)
        return stop + len(self._after)

    def _end_of_like(self, data: bytes) -> int:
        """The same where more than the length is another."""
        if not data.startswith(self._first):
            return 0
        at, length = len(self._first), None
        values: dict[bytes, bytes] = {}
        for name, after in self._rest:
            found = _VALUE.match(data, at)
            if found is None or not data.startswith(after, found.end()):
                return 0
            values[name] = found[0]
            if name == b"content-length":
                length = found.span()
            at = found.end() + len(after)
        head = self.head
        if length is not None:
            digits = values[b"content-length"]
            if len(digits) > MAX_DIGITS or not digits.isdigit():
                return 0
            head.length = int(digits)
        if (session := values.get(b"mcp-session-id")) is not None:
            head.session = session.decode()
        head.headers.update(values)
        self._stand(data[:at], length)
        return at


class _Collector:
    def __init__(self) -> None:
        self.url = b""
        self.pairs: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.body = bytearray()
        self.ended = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp leaves white space at the end (RFC 9110, 5.5). Trailers are not kept: nothing here goes by them.
        if not self.complete:
            self.pairs.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.ended = True


class ChunkedBody:
    """A chunked body as it comes in; `size` bytes so far, `ended` when whole."""

    def __init__(self, parser: httptools.HttpRequestParser, collector: _Collector) -> None:
        self._parser = parser
        self._collector = collector
        self._framing = 0

    @property
    def size(self) -> int:
        return len(self._collector.body)

    def feed(self, data: bytes) -> None:
        """More bytes; raises BadHead when the framing is wrong. What follows the body must not be fed."""
        before = self.size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise BadHead(400, f"the chunked body is malformed ({error})") from None
        self._framing = self._framing + len(data) if self.size == before else 0
        if self._framing > FRAMING_BYTES:
            raise BadHead(431, f"more than {FRAMING_BYTES} bytes of the chunked body are no part of it")

    @property
    def ended(self) -> bool:
        return self._collector.ended

    def take(self) -> bytes:
        return bytes(self._collector.body)


class Rules:
    """Which `Host` and `Origin` are right."""

    def __init__(self, hosts: Collection[str], origins: Collection[str]) -> None:
        self.hosts = frozenset(host.lower() for host in hosts)
        self.origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._verdict = remembered(self._check)

    def check(self, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """The status and sentence of a refusal, or None."""
        return self._verdict(headers.get(b"host"), headers.get(b"origin"))

    def _check(self, said_host: bytes | None, said_origin: bytes | None) -> tuple[int, str] | None:
        host = _text(said_host)
        if host is None:
            return 400, "the header Host is missing"
        if not self._host_ok(host):
            return 403, f"Host {host!r} is not allowed here; add it to allowed_hosts if this service is public under it"
        origin = _text(said_origin)
        if origin is not None and not self._origin_ok(origin):
            return (
                403,
                f"Origin {origin!r} is not allowed here; add it to allowed_origins if its pages may call this service",
            )
        return None

    def _host_ok(self, host: str) -> bool:
        host = host.lower()
        name = host_name(host)
        return name is not None and (name in LOOPBACK or name in self.hosts or host in self.hosts)

    def _origin_ok(self, origin: str) -> bool:
        origin = origin.lower()
        scheme, _, rest = origin.partition("://")
        return origin in self.origins or (scheme in ("http", "https") and host_name(rest) in LOOPBACK)


def host_name(authority: str) -> str | None:
    """The name in `name:port`, None when it is malformed; brackets of an IPv6 address are taken off."""
    found = _AUTHORITY.fullmatch(authority)
    return found[1].strip("[]") if found else None


def parse(data: bytes, rules: Rules) -> tuple[Head, ChunkedBody]:
    """The head in `data`, which ends with its empty line; raises BadHead."""
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        raise BadHead(400, "upgrades are not offered here") from None
    except httptools.HttpParserError as error:
        raise BadHead(400, f"the request is malformed ({error})") from None
    if not collector.complete:
        raise BadHead(400, "the request is malformed (its head ends early)")
    head = Head(parser, collector.url, collector.pairs)
    head.wrong = rules.check(head.headers)
    return head, ChunkedBody(parser, collector)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


# Clients say the same in each request; what they say is theirs to choose, so little of it is remembered.
remembered = lru_cache(maxsize=16)


@remembered
def _is_json(value: bytes) -> bool:
    return value.partition(b";")[0].strip().lower() == b"application/json"


@remembered
def _accepts(value: bytes) -> tuple[bool, bool]:
    """Whether JSON and event streams are both among the media ranges, as the transports ask of clients."""
    json = sse = False
    for part in value.lower().split(b","):
        media, _, parameters = part.partition(b";")
        if b"q=0" in parameters.replace(b" ", b"") and b"q=0." not in parameters.replace(b" ", b""):
            continue
        media = media.strip()
        json = json or media in (b"application/json", b"application/*", b"*/*")
        sse = sse or media in (b"text/event-stream", b"text/*", b"*/*")
    return json, sse
