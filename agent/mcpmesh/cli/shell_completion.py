"""Names for the shell to complete, from the running agent: quick, and silent where there is none."""

from __future__ import annotations

from typing import Any

import typer

from mcpmesh.cli.invocation import Common

# A shell that hangs on the tab key is worse than one that offers nothing.
_SECONDS = 1.0


def services(ctx: typer.Context, incomplete: str) -> list[str]:
    """Services of the mesh that begin so."""
    found = _asked(ctx, "/v1/status").get("services", [])
    return [service["name"] for service in found if service["name"].startswith(incomplete)]


def tools(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tools of the service that was named before."""
    service = ctx.params.get("service")
    found = _asked(ctx, "/v1/tools", service=service).get("tools", []) if service else []
    return [tool["name"] for tool in found if tool["name"].startswith(incomplete)]


def _asked(ctx: typer.Context, path: str, **query: str) -> dict[str, Any]:
    try:
        import httpx

        from mcpmesh.api import agent_record, client
        from mcpmesh.settings import read_settings

        home = read_settings().home(_mesh(ctx))
        address, token = client.find(home).address, agent_record.read_token(home)
        headers = {"Authorization": f"Bearer {token.get_secret_value() if token else ''}"}
        answer = httpx.get(address + path, params=query, headers=headers, timeout=_SECONDS, trust_env=False)
        answer.raise_for_status()
        return dict(answer.json())
    except Exception:
        return {}


def _mesh(ctx: typer.Context) -> str:
    name = ctx.params.get("name") or ctx.find_root().params.get("name")
    return str(name or Common().name)
