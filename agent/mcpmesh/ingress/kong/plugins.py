"""The plugins that the settings turn on, with the fields of Kong 3.9; pure.

They are global: they act on every route, the user's own included. A plugin for
a single service belongs in a document of the user's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mcpmesh.errors import SettingsError
from mcpmesh.settings import KongSettings

Plugin = dict[str, Any]

# The response headers that a page in a browser has to be able to read.
_EXPOSED = ("Mcp-Session-Id", "Mcp-Protocol-Version", "WWW-Authenticate")
_PREFLIGHT_SECONDS = 3600


def plugins(settings: KongSettings) -> list[Plugin]:
    """All that are on; raises SettingsError for malformed headers."""
    return [{"name": name, "config": config} for name, config in _configured(settings)]


def _configured(settings: KongSettings) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if header := settings.correlation_header.strip():
        yield "correlation-id", {"header_name": header, "generator": "uuid", "echo_downstream": True}
    if settings.prometheus:
        yield "prometheus", {"status_code_metrics": True, "latency_metrics": True}
    if settings.key_auth:
        # A key in a query would end up in logs; for one in a body Kong would have to read the whole body.
        yield "key-auth", {"hide_credentials": True, "key_in_header": True, "key_in_query": False, "key_in_body": False}
    if settings.jwt:
        yield "jwt", {"claims_to_verify": ["exp"], "header_names": ["authorization"], "uri_param_names": []}
    if groups := split_list(settings.acl_allow):
        yield "acl", {"allow": groups, "hide_groups_header": True}
    if settings.calls_per_minute is not None:
        yield "rate-limiting", {"minute": settings.calls_per_minute, "limit_by": "consumer", "policy": "local"}
    if settings.request_megabytes is not None:
        yield (
            "request-size-limiting",
            {"allowed_payload_size": settings.request_megabytes, "size_unit": "megabytes"},
        )
    if origins := split_list(settings.cors_origins):
        yield (
            "cors",
            {
                "origins": origins,
                "methods": ["GET", "POST", "DELETE", "OPTIONS"],
                "exposed_headers": [*_EXPOSED, *split_list(settings.correlation_header)],
                "max_age": _PREFLIGHT_SECONDS,
            },
        )
    if settings.traces_url:
        config: dict[str, Any] = {"traces_endpoint": settings.traces_url}
        if headers := _headers(settings):
            config["headers"] = headers
        yield "opentelemetry", config


def split_list(text: str) -> list[str]:
    """The items of a comma-separated list, without empty ones."""
    return [item for part in text.split(",") if (item := part.strip())]


def _headers(settings: KongSettings) -> dict[str, str]:
    text = settings.traces_headers.get_secret_value() if settings.traces_headers else ""
    found: dict[str, str] = {}
    for item in split_list(text):
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise SettingsError('cannot use MCPMESH_KONG__TRACES_HEADERS: each header has to be "name=value"')
        found[name.strip()] = value.strip()
    return found
