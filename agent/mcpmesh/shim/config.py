"""What one shim is told: its server, its address, its limits.

One JSON object (see docs/shim.md) or command-line words become a frozen
`Config`. Anything wrong is a ConfigError with a sentence that names the field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from mcpmesh.shim.jsonrpc import codec

MIB: Final = 1024 * 1024
ISOLATIONS: Final = ("session", "shared", "request")
HEADER_VALUE: Final = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class ConfigError(Exception):
    """The configuration can't be used; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of a shim. Beyond a queue's bound a caller gets 503 with Retry-After: nothing was started."""

    body_bytes: int = 32 * MIB
    """Longest request body; beyond: 413."""
    incoming_bytes: int = 256 * MIB
    """Bytes of request bodies that are still coming in, of all connections together."""
    header_bytes: int = 64 * 1024
    """Longest request head; beyond: 431."""
    line_bytes: int = 64 * MIB
    """Longest line of a server; beyond: an error to the call that it would have answered."""
    connections: int = 2048
    """Open client connections; beyond: closed at once."""
    silent_peer_seconds: float = 60.0
    """A connection that is silent for so long is asked (by TCP, at least every second) whether its other end still is
    there; it is closed after as long again without an answer."""
    sessions: int = 1024
    """Legacy sessions."""
    session_idle_seconds: float = 1800.0
    """A session without a request or an open stream for so long is ended, since most clients never send DELETE."""
    children: int = 64
    """Server processes of one shim."""
    spares: int = 1
    """Processes started ahead for the next session (isolation session) or call (isolation request)."""
    spare_idle_seconds: float = 900.0
    """Spares are let go when nobody opened a session for so long; 0 keeps them."""
    calls_per_child: int = 1024
    """Calls in flight at one process."""
    waiting: int = 256
    """Calls that wait for a process."""
    stdin_bytes: int = 8 * MIB
    """Bytes that wait for a process to read them."""
    stream_bytes: int = 8 * MIB
    """Bytes that wait for a client to read them, beyond one answer."""
    session_backlog: int = 256
    """Notifications kept for a session whose client has no stream open; the oldest are dropped."""
    suspended: int = 256
    """Calls that wait for their client's input (multi round-trip requests); with isolation request at most half of
    `children`, and the oldest makes room."""
    input_seconds: float = 600.0
    """How long they wait."""
    sse_after_seconds: float = 2.0
    """A call that is silent for so long gets its event stream opened, so that keep-alives can flow."""
    keepalive_seconds: float = 8.0
    """A comment line after so long without an event; at most 10."""
    probe_seconds: float = 30.0
    """How long an exchange with the server counts as evidence that it answers."""
    probe_timeout_seconds: float = 10.0
    """How long a probe waits for its answer."""
    stop_seconds: float = 5.0
    """How long a server may take to leave after each of stdin's end and SIGTERM."""
    backoff_seconds: float = 0.5
    """First wait before a restart; doubles."""
    backoff_max_seconds: float = 30.0
    crash_loop: int = 5
    """So many failed starts in a row are called a crash loop."""


@dataclass(frozen=True, slots=True)
class Config:
    """One instance of one service."""

    name: str
    instance: str
    host: str
    port: int
    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict, repr=False)
    cwd: str = "."
    url: str | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    isolation: str = "session"
    affinity: str | None = None
    socket: str | None = None
    start_seconds: float = 60.0
    request_seconds: float = 86400.0
    drain_seconds: float = 10.0
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    limits: Limits = Limits()


def parse(data: bytes) -> Config:
    """A Config from a JSON object; raises ConfigError."""
    try:
        raw = codec.value(data)
    except codec.Malformed as error:
        raise ConfigError(f"cannot read the configuration: it is no JSON ({error})") from None
    if not isinstance(raw, dict):
        raise ConfigError("cannot read the configuration: it must be one JSON object")
    return build(raw)


def build(raw: dict[str, Any]) -> Config:
    """A Config from a mapping; raises ConfigError naming the first field that is wrong."""
    known = {f.name for f in fields(Config)}
    if unknown := sorted(set(raw) - known):
        raise ConfigError(
            f'cannot use the configuration: unknown field "{unknown[0]}" (known: {", ".join(sorted(known))})'
        )
    given = {key: item for key, item in raw.items() if item is not None}
    limits = given.pop("limits", {})
    config = Config(
        name=_text(given, "name", "server"),
        instance=_text(given, "instance", given.get("name", "server")),
        host=_text(given, "host", "127.0.0.1"),
        port=int(_number(given, "port", 0, least=0, most=65535)),
        command=_text(given, "command", None),
        args=_texts(given, "args"),
        env=_table(given, "env"),
        cwd=_text(given, "cwd", str(Path.cwd())),
        url=_text(given, "url", None),
        headers=_headers(given),
        isolation=_text(given, "isolation", "session"),
        affinity=_text(given, "affinity", None),
        socket=_text(given, "socket", None),
        start_seconds=_number(given, "start_seconds", 60.0, least=0.1),
        request_seconds=_number(given, "request_seconds", 86400.0, least=0.1),
        drain_seconds=_number(given, "drain_seconds", 10.0, least=0.0),
        allowed_hosts=_texts(given, "allowed_hosts"),
        allowed_origins=_texts(given, "allowed_origins"),
        limits=_limits(limits),
    )
    if (config.command is None) == (config.url is None):
        raise ConfigError('cannot use the configuration: give either "command" or "url"')
    if config.url is not None and not _is_address(config.url):
        raise _wrong("url", "an address that begins with http:// or https://")
    if config.isolation not in ISOLATIONS:
        raise ConfigError(f'cannot use the configuration: "isolation" must be one of {", ".join(ISOLATIONS)}')
    return config


def _limits(raw: Any) -> Limits:
    if not isinstance(raw, dict):
        raise ConfigError('cannot use the configuration: "limits" must be an object')
    known = {f.name: f for f in fields(Limits)}
    numbers: dict[str, Any] = {}
    for key in raw:
        if key not in known:
            raise ConfigError(
                f'cannot use the configuration: unknown limit "{key}" (known: {", ".join(sorted(known))})'
            )
        number = _number(raw, key, None, least=0)
        numbers[key] = int(number) if known[key].type == "int" else number
    return Limits(**numbers)


def _wrong(key: str, right: str) -> ConfigError:
    # The value is not repeated: it may be a secret.
    return ConfigError(f'cannot use the configuration: "{key}" must be {right}')


def _text(raw: dict[str, Any], key: str, default: Any) -> Any:
    item = raw.get(key, default)
    if item is not None and (not isinstance(item, str) or not item or "\0" in item):
        raise _wrong(key, "a text that is not empty")
    return item


def _texts(raw: dict[str, Any], key: str) -> tuple[str, ...]:
    item = raw.get(key, [])
    if not isinstance(item, list) or not all(isinstance(word, str) and "\0" not in word for word in item):
        raise _wrong(key, "a list of texts")
    return tuple(item)


def _table(raw: dict[str, Any], key: str) -> dict[str, str]:
    item = raw.get(key, {})
    if not isinstance(item, dict) or not all(isinstance(word, str) and "\0" not in word for word in item.values()):
        raise _wrong(key, "an object of texts")
    return item


def _headers(raw: dict[str, Any]) -> dict[str, str]:
    table = _table(raw, "headers")
    for name, text in table.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigError(f'cannot use the configuration: "headers" has {name!r}, which is no name of a header')
        if not HEADER_VALUE.fullmatch(text):
            # The value is not repeated: most of these are a secret with a line break at its end.
            raise ConfigError(
                f'cannot use the configuration: in "headers" the value of {name} must be printable ASCII, '
                "without blanks or line breaks at its ends"
            )
    if len({name.lower() for name in table}) < len(table):
        raise ConfigError('cannot use the configuration: "headers" has a name twice, in other letters')
    return table


def _is_address(url: str) -> bool:
    # Judged by the client that will be loaded for it anyway, and only then.
    import httpx

    try:
        return url.startswith(("http://", "https://")) and bool(httpx.URL(url).host)
    except httpx.InvalidURL:
        return False


def _number(raw: dict[str, Any], key: str, default: Any, least: float, most: float = float("inf")) -> float:
    item = raw.get(key, default)
    if isinstance(item, bool) or not isinstance(item, int | float) or not least <= item <= most:
        bound = f"of at least {least:g}" if most == float("inf") else f"between {least:g} and {most:g}"
        raise _wrong(key, f"a number {bound}")
    return item
