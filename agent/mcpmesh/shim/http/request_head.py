"""The head of an HTTP request, and the checks that need nothing but the head.

httptools parses it and refuses ambiguous heads (two lengths, bad names, both
framings). `Host` and `Origin` are checked against DNS rebinding: loopback names
with any port are always allowed, other names by configuration. A host in the
request target (absolute form) takes precedence over `Host` (RFC 9112, 3.2.2).
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
# The headers in which the requests of one client differ. The shim ignores the ids of Envoy and Kong.
VARYING: Final = (b"content-length", b"mcp-session-id", b"x-request-id", b"x-kong-request-id")
_VALUE = re.compile(rb"[!-~]{1,128}")
# A head with a longer length is parsed, and refused, in full.
MAX_DIGITS: Final = 12
# Bound on the framing between two bytes of a chunked body, and on its trailers.
FRAMING_BYTES: Final = 64 * 1024
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)([^?#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
TRACE: Final = (b"traceparent", b"tracestate", b"baggage")


class BadRequest(Exception):
    """The bytes are not a request that the shim takes; `status` is the answer's."""

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
        "expects_continue",
        "headers",
        "http10",
        "keep_alive",
        "length",
        "mcp_method",
        "mcp_name",
        "method",
        "path",
        "rejection",
        "session",
        "traced",
        "version",
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
            headers[key] = text if key not in headers else self._merge_repeated(name, headers[key], text)
        if absolute and b"host" in headers:
            headers[b"host"] = absolute[1]
        self.headers = headers
        get = headers.get
        # After a request without a body the parser no longer knows that the connection is to be closed.
        closes = b"close" in [option.strip() for option in get(b"connection", b"").lower().split(b",")]
        self.keep_alive: bool = parser.should_keep_alive() and not closes
        length = get(b"content-length")
        self.length = int(length) if length is not None else 0
        self.chunked = b"transfer-encoding" in headers
        self.expects_continue = get(b"expect", b"").lower() == b"100-continue"
        self.session = _text(get(b"mcp-session-id"))
        self.version = _text(get(b"mcp-protocol-version"))
        self.mcp_method = _text(get(b"mcp-method"))
        self.mcp_name = _text(get(b"mcp-name"))
        self.accepts_json, self.accepts_sse = _accepts(get(b"accept", b""))
        self.encoded = get(b"content-encoding", b"identity").lower() != b"identity"
        self.body_json = _is_json(get(b"content-type", b"")) and not self.encoded
        self.traced = not headers.keys().isdisjoint(TRACE)
        self.rejection: tuple[int, str] | None = None
        """Status and sentence of the refusal, if Host or Origin are not allowed."""

    def _merge_repeated(self, name: bytes, first: bytes, text: bytes) -> bytes:
        """The value of a header that appears again."""
        key = name.lower()
        if key in (b"host", b"origin", b"content-type"):
            raise BadRequest(400, f"the header {key.decode()} appears twice")
        if key in SINGLE or key.startswith(b"mcp-param-"):
            self.duplicated = name.decode("latin-1")
        return first + b"," + text if key in LISTED else text


class HeadTemplate:
    """A parsed head. Most requests repeat one, except for the length, the session id and a proxy's request id.

    `head` is the parsed head of the request that matched last: its varying values are replaced at each match.
    """

    __slots__ = ("_after_length", "_before_length", "_fixed_start", "_varying", "head")

    def __init__(self, head: Head, data: bytes) -> None:
        """`data` is the whole head with its empty line; it must not announce a chunked body."""
        self.head = head
        spots: list[tuple[int, int, bytes]] = []
        lowered = data.lower()
        # A header that appears twice has another meaning than one that appears once.
        for name in VARYING if head.duplicated is None else ():
            if name in head.headers and (found := lowered.find(b"\r\n%b: " % name)) >= 0:
                start = found + len(name) + 4
                end = start + len(head.headers[name])
                if data[start : end + 2] == head.headers[name] + b"\r\n":
                    spots.append((start, end, name))
        spots.sort()
        self._fixed_start = data[: spots[0][0]] if spots else data
        # Each varying header's name, and the bytes between its value and the next varying value.
        stops = [*(start for start, _, _ in spots[1:]), len(data)]
        self._varying = [(name, data[end:stop]) for (_, end, name), stop in zip(spots, stops, strict=False)]
        self._remember(data, next(((start, end) for start, end, name in spots if name == b"content-length"), None))

    def _remember(self, data: bytes, length: tuple[int, int] | None) -> None:
        """Remember the last head around the digits of its length: usually only these differ in the next."""
        self._before_length, self._after_length = (data[: length[0]], data[length[1] :]) if length else (data, b"")

    def end_in(self, data: bytes) -> int:
        """The index where the head ends, if `data` begins with such a head, else 0. At a match `head` is updated."""
        start = len(self._before_length)
        if not data.startswith(self._before_length):
            return self._match_varying(data)
        if not self._after_length:
            return start
        stop = data.find(b"\r", start, start + MAX_DIGITS)
        digits = data[start:stop]
        if stop < 0 or not digits.isdigit() or not data.startswith(self._after_length, stop):
            return self._match_varying(data)
        self.head.length = int(digits)
        return stop + len(self._after_length)

    def _match_varying(self, data: bytes) -> int:
        """As end_in, for a head that differs in more than the length."""
        if not data.startswith(self._fixed_start):
            return 0
        at, length = len(self._fixed_start), None
        values: dict[bytes, bytes] = {}
        for name, after in self._varying:
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
        self._remember(data[:at], length)
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
        # llhttp leaves white space at the end (RFC 9110, 5.5). Trailers are dropped: the shim needs none.
        if not self.complete:
            self.pairs.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.ended = True


class ChunkedBody:
    """A chunked body that is arriving: `size` bytes so far, `ended` when it is complete."""

    def __init__(self, parser: httptools.HttpRequestParser, collector: _Collector) -> None:
        self._parser = parser
        self._collector = collector
        self._framing_bytes = 0

    @property
    def size(self) -> int:
        return len(self._collector.body)

    def feed(self, data: bytes) -> None:
        """Take more bytes; raises BadRequest when the framing is wrong. Bytes after the body must not be fed."""
        before = self.size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise BadRequest(400, f"the chunked body is malformed ({error})") from None
        self._framing_bytes = self._framing_bytes + len(data) if self.size == before else 0
        if self._framing_bytes > FRAMING_BYTES:
            raise BadRequest(431, f"more than {FRAMING_BYTES} bytes of the chunked body are no part of it")

    @property
    def ended(self) -> bool:
        return self._collector.ended

    def take(self) -> bytes:
        return bytes(self._collector.body)


class HostRules:
    """Which values of `Host` and `Origin` are allowed."""

    def __init__(self, hosts: Collection[str], origins: Collection[str]) -> None:
        self.hosts = frozenset(host.lower() for host in hosts)
        self.origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._verdict = cached(self._check)

    def check(self, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """The status and sentence of a refusal, or None."""
        return self._verdict(headers.get(b"host"), headers.get(b"origin"))

    def _check(self, host_header: bytes | None, origin_header: bytes | None) -> tuple[int, str] | None:
        host = _text(host_header)
        if host is None:
            return 400, "the header Host is missing"
        if not self._host_ok(host):
            return 403, f"Host {host!r} is not allowed here; add it to allowed_hosts if this service is public under it"
        origin = _text(origin_header)
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
    """The name in `name:port`, without the brackets of an IPv6 address; None when it is malformed."""
    found = _AUTHORITY.fullmatch(authority)
    return found[1].strip("[]") if found else None


def parse(data: bytes, rules: HostRules) -> tuple[Head, ChunkedBody]:
    """Parse the head in `data`, which ends with the empty line; raises BadRequest."""
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        raise BadRequest(400, "upgrades are not offered here") from None
    except httptools.HttpParserError as error:
        raise BadRequest(400, f"the request is malformed ({error})") from None
    if not collector.complete:
        raise BadRequest(400, "the request is malformed (its head ends early)")
    head = Head(parser, collector.url, collector.pairs)
    head.rejection = rules.check(head.headers)
    return head, ChunkedBody(parser, collector)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


# Clients send the same values in each request. They choose these values, so the cache is small.
cached = lru_cache(maxsize=16)


@cached
def _is_json(value: bytes) -> bool:
    return value.partition(b";")[0].strip().lower() == b"application/json"


@cached
def _accepts(value: bytes) -> tuple[bool, bool]:
    """Whether the media ranges include JSON, and whether they include event streams; MCP asks clients for both."""
    json = sse = False
    for part in value.lower().split(b","):
        media, _, parameters = part.partition(b";")
        if b"q=0" in parameters.replace(b" ", b"") and b"q=0." not in parameters.replace(b" ", b""):
            continue
        media = media.strip()
        json = json or media in (b"application/json", b"application/*", b"*/*")
        sse = sse or media in (b"text/event-stream", b"text/*", b"*/*")
    return json, sse
