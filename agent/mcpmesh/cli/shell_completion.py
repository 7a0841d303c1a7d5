"""Completion of names of services and tools in the shell: asks the running agent, offers nothing without one."""

from __future__ import annotations

from typing import Any

import typer

from mcpmesh.cli.invocation import Common

# A shell that hangs on the tab key is worse than a shell that offers nothing.
_TIMEOUT_SECONDS = 1.0


def complete_service(ctx: typer.Context, incomplete: str) -> list[str]:
    """Services of the mesh whose names begin with `incomplete`."""
    services = _ask_agent(ctx, "/v1/status").get("services", [])
    return [service["name"] for service in services if service["name"].startswith(incomplete)]


def complete_tool(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tools, whose names begin with `incomplete`, of the service that stands before them."""
    service = ctx.params.get("service")
    tools = _ask_agent(ctx, "/v1/tools", service=service).get("tools", []) if service else []
    return [tool["name"] for tool in tools if tool["name"].startswith(incomplete)]


def _ask_agent(ctx: typer.Context, path: str, **query: str) -> dict[str, Any]:
    try:
        import httpx

        from mcpmesh.api import agent_record
        from mcpmesh.api.agent_lookup import find_agent
        from mcpmesh.settings import read_settings

        home = read_settings().home(_mesh_name(ctx))
        address, token = find_agent(home).address, agent_record.read_token(home)
        headers = {"Authorization": f"Bearer {token.get_secret_value() if token else ''}"}
        answer = httpx.get(address + path, params=query, headers=headers, timeout=_TIMEOUT_SECONDS, trust_env=False)
        answer.raise_for_status()
        return dict(answer.json())
    except Exception:
        return {}


def _mesh_name(ctx: typer.Context) -> str:
    name = ctx.params.get("name") or ctx.find_root().params.get("name")
    return str(name or Common().name)
