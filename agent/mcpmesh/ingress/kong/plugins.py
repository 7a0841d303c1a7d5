"""The plugins that the settings ask for, as Kong's documents name them (their 3.9 fields); pure.

They are global: they act on every route, a person's own included. What goes
for a single service belongs in a document of a person's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mcpmesh.errors import SettingsError
from mcpmesh.settings import KongSettings

Plugin = dict[str, Any]

# What a page in a browser has to be able to read of an answer.
_EXPOSED = ("Mcp-Session-Id", "Mcp-Protocol-Version", "WWW-Authenticate")
_PREFLIGHT_SECONDS = 3600


def plugins(settings: KongSettings) -> list[Plugin]:
    """All that are on; raises SettingsError for headers that are none."""
    return [{"name": name, "config": config} for name, config in _configured(settings)]


def _configured(settings: KongSettings) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if header := settings.correlation_header.strip():
        yield "correlation-id", {"header_name": header, "generator": "uuid", "echo_downstream": True}
    if settings.prometheus:
        yield "prometheus", {"status_code_metrics": True, "latency_metrics": True}
    if settings.key_auth:
        # In a query it would stand in logs; a body would have to be read whole.
        yield "key-auth", {"hide_credentials": True, "key_in_header": True, "key_in_query": False, "key_in_body": False}
    if settings.jwt:
        yield "jwt", {"claims_to_verify": ["exp"], "header_names": ["authorization"], "uri_param_names": []}
    if groups := listed(settings.acl_allow):
        yield "acl", {"allow": groups, "hide_groups_header": True}
    if settings.calls_per_minute is not None:
        yield "rate-limiting", {"minute": settings.calls_per_minute, "limit_by": "consumer", "policy": "local"}
    if settings.request_megabytes is not None:
        yield (
            "request-size-limiting",
            {"allowed_payload_size": settings.request_megabytes, "size_unit": "megabytes"},
        )
    if origins := listed(settings.cors_origins):
        yield (
            "cors",
            {
                "origins": origins,
                "methods": ["GET", "POST", "DELETE", "OPTIONS"],
                "exposed_headers": [*_EXPOSED, *listed(settings.correlation_header)],
                "max_age": _PREFLIGHT_SECONDS,
            },
        )
    if settings.traces_url:
        config: dict[str, Any] = {"traces_endpoint": settings.traces_url}
        if headers := _headers(settings):
            config["headers"] = headers
        yield "opentelemetry", config


def listed(text: str) -> list[str]:
    """The words between commas."""
    return [word for part in text.split(",") if (word := part.strip())]


def _headers(settings: KongSettings) -> dict[str, str]:
    text = settings.traces_headers.get_secret_value() if settings.traces_headers else ""
    found: dict[str, str] = {}
    for item in listed(text):
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise SettingsError('cannot use MCPMESH_KONG__TRACES_HEADERS: each header has to be "name=value"')
        found[name.strip()] = value.strip()
    return found
