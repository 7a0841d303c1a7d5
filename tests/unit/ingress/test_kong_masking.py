"""A document for Kong, with its secrets masked."""

from __future__ import annotations

from typing import Any

from mcpmesh.ingress.kong.masking import masked

DOCUMENT: dict[str, Any] = {
    "_format_version": "3.0",
    "services": [{"name": "files", "host": "127.0.0.1", "port": 7000, "tags": ["mcpmesh-owner:m"]}],
    "routes": [{"name": "r", "headers": {"x-team": ["a"]}}],
    "consumers": [
        {
            "username": "ada",
            "keyauth_credentials": [{"key": "sesame"}],
            "jwt_secrets": [{"key": "issuer", "secret": "sesame", "algorithm": "HS256"}],
            "basicauth_credentials": [{"username": "ada", "password": "sesame"}],
            "oauth2_credentials": [{"name": "app", "client_secret": "sesame"}],
        }
    ],
    "certificates": [{"cert": "public", "key": "sesame"}],
    "plugins": [
        {"name": "key-auth", "config": {"hide_credentials": True, "key_names": ["apikey"]}},
        {"name": "opentelemetry", "config": {"traces_endpoint": "http://o", "headers": {"x-team": "sesame"}}},
        {"name": "http-log", "config": {"headers": {"authorization": "sesame"}}},
        {"name": "session", "config": {"secret": "sesame"}},
    ],
}


def test_no_secret_is_shown() -> None:
    assert "sesame" not in str(masked(DOCUMENT))


def test_everything_else_is_shown() -> None:
    shown = masked(DOCUMENT)
    assert shown["services"] == DOCUMENT["services"] and shown["routes"] == DOCUMENT["routes"]
    assert shown["consumers"][0]["username"] == "ada"
    assert shown["consumers"][0]["jwt_secrets"][0]["algorithm"] == "HS256"
    assert shown["plugins"][0] == DOCUMENT["plugins"][0]
    assert shown["certificates"] == [{"cert": "public", "key": "***"}]
