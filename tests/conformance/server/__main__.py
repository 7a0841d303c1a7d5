"""The fixture server of the official conformance suite, on the official SDK, over stdio, in both eras or in one.

Tool, prompt and resource names are the suite's. Legacy connections are asked
with server requests, modern ones with input requests, as each era has it.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from prompts import on_get_prompt, on_list_prompts
from questions import asking
from resources import on_list_resources, on_list_templates, on_read_resource
from tools import BUS, on_call_tool, on_list_tools

warnings.simplefilter("ignore")


async def on_completion(ctx: Any, params: Any) -> types.CompleteResult:
    return types.CompleteResult(completion=types.Completion(values=["paris", "park", "party"], total=3, has_more=False))


async def nothing(ctx: Any, params: Any) -> types.EmptyResult:
    return types.EmptyResult()


SERVER: Any = Server(
    "conformance",
    version="1.0",
    on_list_tools=on_list_tools,
    on_call_tool=asking(on_call_tool),
    on_list_prompts=on_list_prompts,
    on_get_prompt=asking(on_get_prompt),
    on_list_resources=on_list_resources,
    on_list_resource_templates=on_list_templates,
    on_read_resource=on_read_resource,
    on_subscribe_resource=nothing,
    on_unsubscribe_resource=nothing,
    on_subscriptions_listen=ListenHandler(BUS),
    on_completion=on_completion,
    on_set_logging_level=nothing,
)


async def refuse_handshake(ctx: Any, call_next: Any) -> Any:
    """A server of the modern era only."""
    if ctx.method == "initialize":
        raise MCPError(-32601, "Method not found")
    return await call_next(ctx)


async def main(era: str) -> None:
    """`era`: both, legacy or modern."""
    changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
    options = SERVER.create_initialization_options(changes)
    async with stdio_server() as (read, write):
        if era == "legacy":
            await serve_loop(SERVER, read, write, lifespan_state={}, init_options=options)
            return
        if era == "modern":
            SERVER.middleware.append(refuse_handshake)
        await SERVER.run(read, write, options)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "both")
