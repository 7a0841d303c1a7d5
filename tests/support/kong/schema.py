"""What Kong 3.9 accepts in a declarative document, as far as the mesh and its tests use it; strict.

Written after Kong's public documentation and the schemas in its repository
(kong/db/schema/entities, kong/plugins/*/schema.lua at 3.9.1). What is not
listed here is refused as an unknown field: the stand-in rather knows too little.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Check = Callable[[Any], str | None]
Errors = dict[str, Any]


def text(value: Any) -> str | None:
    return None if isinstance(value, str) else "expected a string"


def flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "expected a boolean"


def number(low: int, high: int) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return "expected an integer"
        return None if low <= value <= high else f"value should be between {low} and {high}"

    return check


def one_of(*words: Any) -> Check:
    shown = ", ".join(map(str, words))
    return lambda value: None if value in words else f"expected one of: {shown}"


def each(inner: Check) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, list):
            return "expected an array" if inner is not text else "expected a set"
        found = [inner(item) for item in value]
        return found if any(found) else None

    return check


def mapping(value: Any) -> str | None:
    return None if isinstance(value, dict) else "expected a map"


def identity(value: Any) -> str | None:
    try:
        return None if isinstance(value, str) and uuid.UUID(value) else "expected a valid UUID"
    except ValueError:
        return "expected a valid UUID"


def name(value: Any) -> str | None:
    if not isinstance(value, str):
        return "expected a string"
    if not re.fullmatch(r"[\w.\-~]+", value):
        return f"invalid value '{value}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"
    return None


def tag(value: Any) -> str | None:
    if not isinstance(value, str):
        return "expected a string"
    if not value or any(letter in ",/" or not letter.isprintable() for letter in value):
        return f"invalid tag '{value}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
    return None


def path(value: Any) -> str | None:
    if not isinstance(value, str):
        return "expected a string"
    if not value.startswith("/"):
        return "should start with: /"
    return "must not have empty segments" if "//" in value else None


def route_path(value: Any) -> str | None:
    if not isinstance(value, str):
        return "expected a string"
    if not value.startswith(("/", "~/")):
        return "should start with: / (fixed path) or ~/ (regex path)"
    if "//" in value:
        return "must not have empty segments"
    try:
        re.compile(value.removeprefix("~"))
    except re.error as error:
        return f"invalid regex: '{value.removeprefix('~')}' (PCRE returned: {error})"
    return None


TIMEOUT = number(1, 2**31 - 2)
PROTOCOL = one_of("http", "https", "grpc", "grpcs", "tcp", "tls", "udp")
COMMON: dict[str, Check] = {"id": identity, "tags": each(tag), "_comment": text}

# The fields of each plugin's `config`; those in capitals are required.
PLUGINS: dict[str, dict[str, Check]] = {
    "acl": {"allow": each(text), "deny": each(text), "hide_groups_header": flag},
    "correlation-id": {
        "header_name": text,
        "generator": one_of("uuid", "uuid#counter", "tracker"),
        "echo_downstream": flag,
    },
    "cors": {
        "origins": each(text),
        "methods": each(one_of("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT")),
        "headers": each(text),
        "exposed_headers": each(text),
        "credentials": flag,
        "max_age": number(0, 2**53),
        "preflight_continue": flag,
    },
    "jwt": {
        "claims_to_verify": each(one_of("exp", "nbf")),
        "header_names": each(text),
        "uri_param_names": each(text),
        "cookie_names": each(text),
        "key_claim_name": text,
    },
    "key-auth": {
        "key_names": each(text),
        "hide_credentials": flag,
        "key_in_header": flag,
        "key_in_query": flag,
        "key_in_body": flag,
        "anonymous": text,
        "realm": text,
    },
    "opentelemetry": {
        "traces_endpoint": text,
        "logs_endpoint": text,
        "headers": mapping,
        "resource_attributes": mapping,
    },
    "prometheus": {
        "per_consumer": flag,
        "status_code_metrics": flag,
        "latency_metrics": flag,
        "bandwidth_metrics": flag,
        "upstream_health_metrics": flag,
    },
    "rate-limiting": {
        "second": number(1, 2**53),
        "minute": number(1, 2**53),
        "hour": number(1, 2**53),
        "limit_by": one_of("consumer", "credential", "ip", "service", "header", "path"),
        "policy": one_of("local", "redis"),
    },
    "request-size-limiting": {
        "allowed_payload_size": number(0, 2**53),
        "size_unit": one_of("megabytes", "kilobytes", "bytes"),
        "require_content_length": flag,
    },
    "request-termination": {"status_code": number(100, 599), "message": text, "body": text, "content_type": text},
}


@dataclass(frozen=True)
class Kind:
    """One kind of entity: its fields, the required ones, and its unique keys."""

    fields: Mapping[str, Check]
    needed: tuple[str, ...] = ()
    key: str | None = "name"
    refers: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    extra: Callable[[Mapping[str, Any]], str | None] = field(default=lambda entity: None)


def _acl(config: Mapping[str, Any]) -> str | None:
    given = [key for key in ("allow", "deny") if config.get(key)]
    if len(given) == 1:
        return None
    return (
        "only one of these fields must be non-empty: 'config.allow', 'config.deny'"
        if given
        else ("at least one of these fields must be non-empty: 'config.allow', 'config.deny'")
    )


def _whole_plugin(entity: Mapping[str, Any]) -> str | None:
    config = entity.get("config") or {}
    if entity.get("name") == "acl":
        return _acl(config)
    if entity.get("name") == "rate-limiting" and not {"second", "minute", "hour"} & config.keys():
        return "at least one of these fields must be non-empty: 'config.second', 'config.minute', 'config.hour'"
    if entity.get("name") == "opentelemetry" and not {"traces_endpoint", "logs_endpoint"} & config.keys():
        return "at least one of these fields must be non-empty: 'config.traces_endpoint', 'config.logs_endpoint'"
    return None


KINDS: dict[str, Kind] = {
    "services": Kind(
        {
            **COMMON,
            "name": name,
            "retries": number(0, 32767),
            "protocol": PROTOCOL,
            "host": text,
            "port": number(0, 65535),
            "path": path,
            "connect_timeout": TIMEOUT,
            "write_timeout": TIMEOUT,
            "read_timeout": TIMEOUT,
            "enabled": flag,
        },
        needed=("host",),
        inside=("routes", "plugins"),
    ),
    "routes": Kind(
        {
            **COMMON,
            "name": name,
            "protocols": each(PROTOCOL),
            "methods": each(text),
            "hosts": each(text),
            "paths": each(route_path),
            "strip_path": flag,
            "preserve_host": flag,
            "request_buffering": flag,
            "response_buffering": flag,
            "regex_priority": number(-(2**31), 2**31),
            "path_handling": one_of("v0", "v1"),
        },
        refers=("service",),
        inside=("plugins",),
    ),
    "plugins": Kind(
        {
            **COMMON,
            "name": text,
            "instance_name": name,
            "config": mapping,
            "enabled": flag,
            "protocols": each(PROTOCOL),
        },
        needed=("name",),
        key=None,
        refers=("service", "route", "consumer"),
        extra=_whole_plugin,
    ),
    "consumers": Kind(
        {**COMMON, "username": text, "custom_id": text},
        key="username",
        inside=("plugins", "keyauth_credentials", "jwt_secrets", "acls"),
    ),
    "keyauth_credentials": Kind({**COMMON, "key": text}, key="key", refers=("consumer",)),
    "jwt_secrets": Kind({**COMMON, "key": text, "secret": text, "algorithm": text}, key="key", refers=("consumer",)),
    "acls": Kind({**COMMON, "group": text}, needed=("group",), key=None, refers=("consumer",)),
}

_WHOLE: dict[str, Check] = {
    "_format_version": one_of("1.1", "2.1", "3.0"),
    "_transform": flag,
    "_comment": text,
    "_ignore": lambda value: None,
}


def errors_in(document: Mapping[str, Any]) -> Errors:
    """The mistakes in the fields of a document, nested by key and index as Kong does; empty where there is none."""
    found: Errors = {}
    if "_format_version" not in document:
        found["_format_version"] = "required field missing"
    for key, value in document.items():
        if key in KINDS:
            wrong = _list(key, value, parent=None)
        elif key in _WHOLE:
            wrong = _WHOLE[key](value)
        else:
            wrong = "unknown field"
        if wrong:
            found[key] = wrong
    return found


def _list(kind: str, value: Any, parent: str | None) -> Any:
    if not isinstance(value, list):
        return "expected an array"
    found = [_entity(kind, item, parent) for item in value]
    return found if any(found) else None


def _entity(kind: str, entity: Any, parent: str | None) -> Any:
    if not isinstance(entity, dict):
        return "expected a record"
    spec, found = KINDS[kind], {}
    for key in spec.needed:
        if entity.get(key) is None:
            found[key] = "required field missing"
    for key, value in entity.items():
        if key in spec.inside:
            wrong = _list(key, value, parent=kind)
        elif key in spec.fields:
            wrong = None if value is None else spec.fields[key](value)
        elif key in spec.refers:
            wrong = (
                "value must be null" if parent == f"{key}s" else None if isinstance(value, str) else "expected a string"
            )
        else:
            wrong = "unknown field"
        if wrong:
            found[key] = wrong
    if kind == "plugins" and "name" not in found:
        found |= _plugin(entity)
    if not found and (wrong := spec.extra(entity)):
        found["@entity"] = [wrong]
    return found or None


def _plugin(entity: Mapping[str, Any]) -> Errors:
    fields = PLUGINS.get(entity["name"])
    if fields is None:
        return {"name": f"plugin '{entity['name']}' not enabled; add it to the 'plugins' configuration property"}
    config = entity.get("config") or {}
    if not isinstance(config, dict):
        return {}
    wrong = {key: fields[key](value) if key in fields else "unknown field" for key, value in config.items()}
    wrong = {key: reason for key, reason in wrong.items() if reason}
    return {"config": wrong} if wrong else {}


def entities(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], str | None, int | None]]:
    """Each entity with its kind, flat, and what it is known by; what it stood in has become its reference.

    At last its place in the document's list; None where it stood inside another.
    """
    for kind in KINDS:
        for place, item in enumerate(document.get(kind) or ()):
            yield from _flat(kind, item, place, {})


def _flat(
    kind: str, item: Mapping[str, Any], place: int | None, above: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any], str | None, int | None]]:
    spec = KINDS[kind]
    entity = {key: value for key, value in item.items() if key not in spec.inside}
    entity |= {key: value for key, value in above.items() if key in spec.refers}
    scope = ":".join(str(entity.get(key) or "") for key in ("name", *spec.refers)) if spec.key is None else ""
    known = entity.get(spec.key) if spec.key else scope + str(entity.get("instance_name") or entity.get("group") or "")
    entity.setdefault("id", str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}:{known or uuid.uuid4()}")))
    yield kind, entity, known, place
    here = {**above, kind.removesuffix("s"): str(entity.get("name") or entity.get("username") or entity["id"])}
    for inner in spec.inside:
        for each_item in item.get(inner) or ():
            yield from _flat(inner, each_item, None, here)
