"""Which route a path at the ingress falls under."""

from __future__ import annotations

import pytest

from mcpmesh.verify.claims.route_paths import service_at, user_path_at


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/mcp/files", "files"),
        ("/mcp/files/deep", "files"),
        ("/mcp/filesystem", None),
        ("/mcp", None),
        ("/web", "web"),
        ("/web/", "web"),
    ],
)
def test_a_path_falls_under_a_route_as_a_folder(path: str, service: str | None) -> None:
    assert service_at({"files": "/mcp/files", "web": "/web/"}, path) == service


def test_every_path_falls_under_the_root() -> None:
    assert service_at({"all": "/"}, "/anything") == "all"


@pytest.mark.parametrize(
    ("path", "user_path"), [("/shopping", "/shop"), ("/v2/x", "~/v[0-9]+/"), ("/mcp/files", None), ("/x/v2/", None)]
)
def test_a_users_path_takes_what_kong_lets_it_take(path: str, user_path: str | None) -> None:
    assert user_path_at(["/shop", "~/v[0-9]+/"], path) == user_path
