"""The configuration of one shim: its server, its address, its limits.

A JSON object (see docs/shim.md) or the words of the command line become a
frozen `Config`. A mistake is a ConfigError with a sentence that names the
field and what would be right. Values are never repeated: they may be secrets.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

MIB: Final = 1024 * 1024
Isolation: TypeAlias = Literal["session", "shared", "request"]
ISOLATIONS: Final = get_args(Isolation)
HEADER_VALUE: Final = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# A text that becomes part of a command, a path or an environment ends at a NUL there.
Text: TypeAlias = Annotated[str, Meta(pattern=r"\A[^\0]+\Z")]
TextOrEmpty: TypeAlias = Annotated[str, Meta(pattern=r"\A[^\0]*\Z")]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
LongSeconds: TypeAlias = Annotated[float, Meta(ge=0.1)]
Port: TypeAlias = Annotated[int, Meta(ge=0, le=65535)]


class ConfigError(Exception):
    """The configuration can't be used; the message is one sentence."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every bound of a shim. Beyond the bound of a queue a caller gets 503 with Retry-After: nothing was started."""

    body_bytes: Count = 32 * MIB
    """Longest request body; beyond: 413."""
    incoming_bytes: Count = 256 * MIB
    """Bytes of request bodies that are not complete yet, of all connections together."""
    header_bytes: Count = 64 * 1024
    """Longest request head; beyond: 431."""
    line_bytes: Count = 64 * MIB
    """Longest line of a server; beyond: an error to the call that it would have answered."""
    connections: Count = 2048
    """Open client connections; beyond: closed at once."""
    silent_peer_seconds: Seconds = 60.0
    """After this time of silence TCP probes whether a connection's other end still exists (at least every second); it
    is closed after as long again without an answer."""
    sessions: Count = 1024
    """Legacy sessions."""
    session_idle_seconds: Seconds = 1800.0
    """A session without a request or an open stream for this long is ended, since most clients never send DELETE."""
    children: Count = 64
    """Server processes of one shim."""
    spares: Count = 1
    """Processes started in advance for the next session (isolation session) or call (isolation request)."""
    spare_idle_seconds: Seconds = 900.0
    """Spares are stopped when no session was opened for this long; 0 keeps them."""
    calls_per_child: Count = 1024
    """Calls in flight at one process."""
    waiting: Count = 256
    """Calls that wait for a process."""
    stdin_bytes: Count = 8 * MIB
    """Bytes that wait for a process to read them."""
    stream_bytes: Count = 8 * MIB
    """Bytes that wait for a client to read them, beyond one answer."""
    session_backlog: Count = 256
    """Messages kept for a session whose client has no stream open; the oldest are dropped."""
    suspended: Count = 256
    """Calls that wait for their client's input (multi round-trip requests); with isolation request at most half of
    `children`, and the oldest makes room."""
    input_seconds: Seconds = 600.0
    """How long they wait."""
    sse_after_seconds: Seconds = 2.0
    """A call without an answer for this long gets its event stream opened, so that keep-alives can be sent."""
    keepalive_seconds: Seconds = 8.0
    """A comment line after this long without an event; at most 10."""
    probe_seconds: Seconds = 30.0
    """How long an answer of the server proves that it answers."""
    probe_timeout_seconds: Seconds = 10.0
    """How long a probe waits for its answer."""
    stop_seconds: Seconds = 5.0
    """How long a server may take to exit after its stdin was closed, and again after SIGTERM."""
    backoff_seconds: Seconds = 0.5
    """First wait before a restart; it doubles each time."""
    backoff_max_seconds: Seconds = 30.0
    """Longest wait before a restart."""
    crash_loop: Count = 5
    """This many failed starts in a row are called a crash loop."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One instance of one service."""

    name: Text = "server"
    instance: Text = ""
    """The name, if it is not given."""
    host: Text = "127.0.0.1"
    port: Port = 0
    command: Text | None = None
    args: tuple[TextOrEmpty, ...] = ()
    env: dict[str, TextOrEmpty] = {}
    cwd: Text = msgspec.field(default_factory=lambda: str(Path.cwd()))
    url: Text | None = None
    headers: dict[str, TextOrEmpty] = {}
    isolation: Isolation = "session"
    affinity: Text | None = None
    socket: Text | None = None
    start_seconds: LongSeconds = 60.0
    request_seconds: LongSeconds = 86400.0
    drain_seconds: Seconds = 10.0
    allowed_hosts: tuple[TextOrEmpty, ...] = ()
    allowed_origins: tuple[TextOrEmpty, ...] = ()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not self.instance:
            msgspec.structs.force_setattr(self, "instance", self.name)
        if (self.command is None) == (self.url is None):
            raise ConfigError('cannot use the configuration: give either "command" or "url"')
        if self.url is not None and not _is_address(self.url):
            raise _wrong("url", "an address that begins with http:// or https://")
        _check_headers(self.headers)

    def __repr__(self) -> str:
        return f"Config(name={self.name!r}, instance={self.instance!r})"  # the other fields may hold secrets


# What would be right, by the type of a field; for Literal it is the list of its values.
EXPECTED: Final[dict[Any, str]] = {
    Text: "a text that is not empty",
    Text | None: "a text that is not empty",
    Count: "a whole number of at least 0",
    Seconds: "a number of at least 0",
    LongSeconds: "a number of at least 0.1",
    Port: "a number between 0 and 65535",
    tuple[TextOrEmpty, ...]: "a list of texts",
    dict[str, TextOrEmpty]: "an object of texts",
    Isolation: f"one of {', '.join(ISOLATIONS)}",
    Limits: "an object",
}
# How msgspec ends the message of a value that does not fit.
_PATH = re.compile(r" - at `\$\.(\w+)(?:\.(\w+))?")
_UNKNOWN = re.compile(r"unknown field `(.*?)`")


def parse(data: bytes) -> Config:
    """A Config from a JSON object; raises ConfigError."""
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration: it is no JSON ({error})") from None
    if not isinstance(raw, dict):
        raise ConfigError("cannot read the configuration: it must be one JSON object")
    return build(raw)


def build(raw: dict[str, Any]) -> Config:
    """A Config from a mapping; raises ConfigError naming the first field that is wrong. None counts as absent."""
    given = {key: item for key, item in raw.items() if item is not None}
    try:
        return msgspec.convert(given, Config)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None


def _explain(message: str) -> ConfigError:
    """The sentence for a mistake that msgspec found."""
    path = _PATH.search(message)
    if (unknown := _UNKNOWN.search(message)) is not None:
        kind, struct = ("limit", Limits) if path is not None else ("field", Config)
        known = ", ".join(sorted(struct.__struct_fields__))
        return ConfigError(f'cannot use the configuration: unknown {kind} "{unknown[1]}" (known: {known})')
    assert path is not None, message
    field, limit = path[1], path[2]
    if field == "limits" and limit is not None:
        return _wrong(limit, EXPECTED[_types(Limits)[limit]])
    return _wrong(field, EXPECTED[_types(Config)[field]])


def _types(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(struct)}


def _wrong(key: str, right: str) -> ConfigError:
    return ConfigError(f'cannot use the configuration: "{key}" must be {right}')


def _check_headers(headers: dict[str, str]) -> None:
    for name, text in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigError(f'cannot use the configuration: "headers" has {name!r}, which is no name of a header')
        if not HEADER_VALUE.fullmatch(text):
            # Most of these values are secrets with a line break at their end.
            raise ConfigError(
                f'cannot use the configuration: in "headers" the value of {name} must be printable ASCII, '
                "without blanks or line breaks at its ends"
            )
    if len({name.lower() for name in headers}) < len(headers):
        raise ConfigError('cannot use the configuration: "headers" has a name twice, in other letters')


def _is_address(url: str) -> bool:
    # Judged by the client that will use it, which is imported only for this.
    import httpx

    try:
        return url.startswith(("http://", "https://")) and bool(httpx.URL(url).host)
    except httpx.InvalidURL:
        return False
