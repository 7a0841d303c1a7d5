"""Kong's reasons for rejecting a document, one line each."""

from __future__ import annotations

import pytest

from mcpmesh.ingress.kong.kong_admin import refusal

NAMED = {"entity_type": "plugin", "entity_name": "acl", "errors": [{"field": "config.allow", "message": "is empty"}]}


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (None, ["HTTP 400, without a reason"]),
        ({}, ["HTTP 400, without a reason"]),
        ({"message": "declarative config is invalid"}, ["declarative config is invalid"]),
        ({"flattened_errors": [NAMED, NAMED]}, ['plugin "acl" config.allow: is empty']),
        (
            {"flattened_errors": [{"entity_type": "route", "entity_id": "7", "errors": [{"message": "has no paths"}]}]},
            ['route "7": has no paths'],
        ),
        ({"flattened_errors": [{"errors": [{"field": "name"}, "odd"]}, "odd"]}, ["entity name: refused"]),
        ({"flattened_errors": [{"entity_type": "route", "errors": [{}]}]}, ["route: refused"]),
        ({"fields": {"services": [None, {"host": "required"}]}}, ["services[2].host: required"]),
        ({"fields": {"services": ["one", "two"]}}, ["services: one", "services: two"]),
        ({"fields": {"plugins": [{"@entity": ["set one of them"]}]}}, ["plugins[1]: set one of them"]),
        ({"fields": {"@entity": "broken"}}, ["broken"]),
        ({"fields": {"a": None, "b": 7}}, ["b: 7"]),
    ],
)
def test_every_reason_is_a_line_with_its_entity_and_field(body: object, lines: list[str]) -> None:
    assert refusal(400, body) == lines
