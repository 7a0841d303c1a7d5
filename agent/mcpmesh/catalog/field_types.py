"""The types of single values in a mesh.yaml: what each accepts, and the sentence that refuses the rest.

Refusals never repeat a value, which may hold an expanded secret.
"""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from mcpmesh.model.service import NAME_PATTERN

# Checks that follow each other more closely say nothing more and cost Consul.
MIN_INTERVAL = 0.1
# A year; longer is a mistake in the unit.
MAX_SECONDS = 366 * 86_400.0

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = r"^(\d{1,9}(\.\d{1,9})?(ms|s|m|h|d))+$"
_ROUTE = r"^(/[A-Za-z0-9._~-]+)+/?$"
_IMAGE = r"[a-z0-9][a-z0-9._:/-]*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
# These belong to the connection, which is Envoy's and the shim's.
_CONNECTION_HEADERS = {
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


def refuse(message: str) -> PydanticCustomError:
    """A refusal whose message is told as it stands."""
    # Doubled, because the message is a template.
    return PydanticCustomError("refused", message.replace("{", "{{").replace("}", "}}"))


def _seconds(value: Any) -> Any:
    if isinstance(value, bool):
        raise refuse("has to be a duration such as 30s, 5m or 1m30s, or a number of seconds")
    if isinstance(value, str):
        if not re.fullmatch(_DURATION, value):
            raise refuse("has to be a duration such as 30s, 5m or 1m30s, or a number of seconds")
        value = sum(float(count) * _UNITS[unit] for count, unit in re.findall(r"([\d.]+)(ms|[smhd])", value))
    if isinstance(value, int | float) and not 0 < value <= MAX_SECONDS:
        raise refuse("has to be longer than nothing and at most a year")
    return value


def _interval(value: float) -> float:
    if value < MIN_INTERVAL:
        raise refuse("has to be at least 100ms")
    return value


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise refuse("holds a NUL character, which no program can be given; remove it")
    return value


def _words(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _filled(value: list[str]) -> list[str]:
    if not value or not value[0].strip():
        raise refuse("has to name a program")
    return value


def _address(value: str) -> str:
    try:
        parts = urlsplit(f"//{value}")
        good = bool(parts.hostname and parts.port) and value == parts.netloc and "@" not in value
    except ValueError:
        good = False
    if not good:
        raise refuse("has to be an address such as 127.0.0.1:8080")
    return value


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not value.isascii() or not value.isprintable() or " " in value:
        raise refuse("has to be a URL such as https://example.com/mcp")
    if "@" in parts.netloc:
        raise refuse("has a password in it, which logs would show; put it in headers, as Authorization")
    if parts.fragment:
        raise refuse("has a part after #, which no server is ever sent; remove it")
    return value


def _route(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise refuse("has to be a path such as /api, or false for none")
    path = value.rstrip("/")
    if not re.fullmatch(_ROUTE, path) or {".", ".."} & set(path.split("/")):
        raise refuse("has to be a path such as /api (letters, digits and -._~ between slashes), or false for none")
    if path == "/mcp":
        raise refuse("is the folder of all servers; choose a path below it, or another")
    return path


def _path(value: str) -> str:
    if not value.startswith("/") or not value.isascii() or not value.isprintable() or " " in value:
        raise refuse("has to be a path such as /healthz")
    return value


def _env(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, content in value.items():
        if not name or "=" in name or not name.isprintable():
            raise refuse("has a name that no environment variable can have; use letters, digits and _")
        if "\0" in content.get_secret_value():
            raise refuse(f"has a NUL character in {name}, which no program can be given; remove it")
    return value


def _headers(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, content in value.items():
        if not _HEADER.fullmatch(name):
            raise refuse("has a name that no HTTP header can have; use letters, digits and -")
        if name.lower() in _CONNECTION_HEADERS:
            raise refuse(f"sets {name}, which belongs to the connection; remove it")
        if any(character in content.get_secret_value() for character in "\r\n\0"):
            raise refuse(f"has a line break in {name}; a header is one line")
    if len({name.lower() for name in value}) < len(value):
        raise refuse("has one header twice, in upper and lower case; keep one")
    return value


def _image(value: str) -> str:
    if not re.fullmatch(_IMAGE, value):
        raise refuse("has to be the name of an image such as mcp/time:1.0 or ghcr.io/owner/name@sha256:…")
    return value


def _identity(value: str) -> str:
    if value != "*" and not re.fullmatch(NAME_PATTERN, value):
        raise refuse('has to be the name of a service, or "*" for everybody')
    return value


def _name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN, value):
        raise refuse("has to be the name of a service: lower-case letters, digits and -")
    return value


_SCALAR = {"type": ["string", "number", "boolean"]}

Text = Annotated[str, AfterValidator(_without_nul)]
Argument = Annotated[Text, WithJsonSchema(_SCALAR)]
Program = Annotated[
    list[Text],
    BeforeValidator(_words),
    AfterValidator(_filled),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": _SCALAR, "minItems": 1}]},
    ),
]
Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS},
                {"type": "string", "pattern": _DURATION},
            ]
        }
    ),
]
Interval = Annotated[Seconds, AfterValidator(_interval)]
Secret = Annotated[SecretStr, WithJsonSchema(_SCALAR)]
Environment = Annotated[dict[str, Secret], AfterValidator(_env)]
Headers = Annotated[dict[str, Secret], AfterValidator(_headers)]
Address = Annotated[str, AfterValidator(_address)]
Url = Annotated[str, AfterValidator(_url)]
Route = Annotated[
    str | bool,
    BeforeValidator(_route),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": _ROUTE}, {"type": "boolean"}]}),
]
UrlPath = Annotated[str, AfterValidator(_path), WithJsonSchema({"type": "string", "pattern": "^/"})]
Image = Annotated[Text, AfterValidator(_image)]
Identity = Annotated[
    str, AfterValidator(_identity), WithJsonSchema({"type": "string", "pattern": rf"^\*$|{NAME_PATTERN}"})
]
Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})]
Port = Annotated[int, Strict(), Field(ge=1, le=65_535)]
