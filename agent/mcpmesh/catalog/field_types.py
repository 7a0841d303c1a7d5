"""The types of single values in a mesh.yaml: what each accepts, and the sentence for everything else.

No sentence repeats a value, because a value may hold an expanded secret.
"""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from mcpmesh.model.service import NAME_PATTERN, Isolation

# The type of errors whose message is shown as it is.
REFUSED = "refused"

# More frequent checks say nothing more and cost Consul.
MIN_INTERVAL_SECONDS = 0.1
# A year. A longer time is a mistake in the unit.
MAX_SECONDS = 366 * 86_400.0

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = r"^(\d{1,9}(\.\d{1,9})?(ms|s|m|h|d))+$"
_ROUTE = r"^(/[A-Za-z0-9._~-]+)+/?$"
_IMAGE = r"[a-z0-9][a-z0-9._:/-]*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
# Headers of the connection, which Envoy and the shim set.
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


def duration_text(seconds: float) -> str:
    """A duration as a catalog has it: `24h`, `90s`, `0.5s`."""
    hours = seconds / _UNIT_SECONDS["h"]
    return f"{hours:g}h" if hours >= 1 else f"{seconds:g}s"


def _refused(message: str) -> PydanticCustomError:
    """An error whose message is shown as it is."""
    # Braces are doubled because pydantic takes the message for a template.
    return PydanticCustomError(REFUSED, message.replace("{", "{{").replace("}", "}}"))


def _check_seconds(value: Any) -> Any:
    if isinstance(value, bool):
        raise _refused("has to be a duration such as 30s, 5m or 1m30s, or a number of seconds")
    if isinstance(value, str):
        if not re.fullmatch(_DURATION, value):
            raise _refused("has to be a duration such as 30s, 5m or 1m30s, or a number of seconds")
        value = sum(float(count) * _UNIT_SECONDS[unit] for count, unit in re.findall(r"([\d.]+)(ms|[smhd])", value))
    if isinstance(value, int | float) and not 0 < value <= MAX_SECONDS:
        raise _refused("has to be longer than 0 seconds and at most a year")
    return value


def _check_interval(value: float) -> float:
    if value < MIN_INTERVAL_SECONDS:
        raise _refused("has to be at least 100ms")
    return value


def _check_text(value: str) -> str:
    if "\0" in value:
        raise _refused("holds a NUL character, which no program can be given; remove it")
    return value


def _program_as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _check_program(value: list[str]) -> list[str]:
    if not value or not value[0].strip():
        raise _refused("has to name a program")
    return value


def _check_address(value: str) -> str:
    try:
        parts = urlsplit(f"//{value}")
        valid = bool(parts.hostname and parts.port) and value == parts.netloc and "@" not in value
    except ValueError:
        valid = False
    if not valid:
        raise _refused("has to be an address such as 127.0.0.1:8080")
    return value


def _check_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not _is_plain_ascii(value):
        raise _refused("has to be a URL such as https://example.com/mcp")
    if "@" in parts.netloc:
        raise _refused("holds a password, which logs would show; put it in headers, as Authorization")
    if parts.fragment:
        raise _refused("has a part after #, which is never sent to a server; remove it")
    return value


def _check_route(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise _refused("has to be a path such as /api, or false for none")
    path = value.rstrip("/")
    if not re.fullmatch(_ROUTE, path) or {".", ".."} & set(path.split("/")):
        raise _refused("has to be a path such as /api (letters, digits and -._~ between slashes), or false for none")
    if path == "/mcp":
        raise _refused("is the folder of all servers; choose a path below it, or another")
    return path


def _check_path(value: str) -> str:
    if not value.startswith("/") or not _is_plain_ascii(value):
        raise _refused("has to be a path such as /healthz")
    return value


def _is_plain_ascii(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value


def _check_environment(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, content in value.items():
        if not name or "=" in name or not name.isprintable():
            raise _refused("has a name that no environment variable can have; use letters, digits and _")
        if "\0" in content.get_secret_value():
            raise _refused(f"has a NUL character in {name}, which no program can be given; remove it")
    return value


def _check_headers(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, content in value.items():
        if not _HEADER.fullmatch(name):
            raise _refused("has a name that no HTTP header can have; use letters, digits and -")
        if name.lower() in _CONNECTION_HEADERS:
            raise _refused(f"sets {name}, which belongs to the connection; remove it")
        if any(character in content.get_secret_value() for character in "\r\n\0"):
            raise _refused(f"has a line break in {name}; a header is one line")
    if len({name.lower() for name in value}) < len(value):
        raise _refused("has one header twice, in upper and lower case; keep one")
    return value


def _check_image(value: str) -> str:
    if not re.fullmatch(_IMAGE, value):
        raise _refused("has to be the name of an image such as mcp/time:1.0 or ghcr.io/owner/name@sha256:…")
    return value


def _check_identity(value: str) -> str:
    if value != "*" and not re.fullmatch(NAME_PATTERN, value):
        raise _refused('has to be the name of a service, or "*" for everybody')
    return value


def _check_name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN, value):
        raise _refused("has to be the name of a service: lower-case letters, digits and -")
    return value


_SCALAR = {"type": ["string", "number", "boolean"]}

Text = Annotated[str, AfterValidator(_check_text)]
Argument = Annotated[Text, WithJsonSchema(_SCALAR)]
Program = Annotated[
    list[Text],
    BeforeValidator(_program_as_list),
    AfterValidator(_check_program),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": _SCALAR, "minItems": 1}]},
    ),
]
Seconds = Annotated[
    float,
    BeforeValidator(_check_seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS},
                {"type": "string", "pattern": _DURATION},
            ]
        }
    ),
]
Interval = Annotated[Seconds, AfterValidator(_check_interval)]
Secret = Annotated[SecretStr, WithJsonSchema(_SCALAR)]
Environment = Annotated[dict[str, Secret], AfterValidator(_check_environment)]
Headers = Annotated[dict[str, Secret], AfterValidator(_check_headers)]
Address = Annotated[str, AfterValidator(_check_address)]
Url = Annotated[str, AfterValidator(_check_url)]
Route = Annotated[
    str | bool,
    BeforeValidator(_check_route),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": _ROUTE}, {"type": "boolean"}]}),
]
UrlPath = Annotated[str, AfterValidator(_check_path), WithJsonSchema({"type": "string", "pattern": "^/"})]
Image = Annotated[Text, AfterValidator(_check_image)]
IsolationWord = Annotated[Isolation, WithJsonSchema({"enum": [word.value for word in Isolation], "type": "string"})]
Identity = Annotated[
    str, AfterValidator(_check_identity), WithJsonSchema({"type": "string", "pattern": rf"^\*$|{NAME_PATTERN}"})
]
Name = Annotated[str, AfterValidator(_check_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})]
Port = Annotated[int, Strict(), Field(ge=1, le=65_535)]
