"""The resources that the suite reads."""

from __future__ import annotations

import json
from typing import Any

import mcp_types as types
from contents import PNG
from mcp.shared.exceptions import MCPError
from questions import is_modern


async def on_list_resources(ctx: Any, params: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(
        resources=[
            types.Resource(uri="test://static-text", name="static-text", mime_type="text/plain"),
            types.Resource(uri="test://static-binary", name="static-binary", mime_type="image/png"),
            types.Resource(uri="test://watched-resource", name="watched-resource", mime_type="text/plain"),
        ]
    )


async def on_list_templates(ctx: Any, params: Any) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(
        uri_template="test://template/{id}/data", name="template", mime_type="application/json"
    )
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def on_read_resource(ctx: Any, params: Any) -> types.ReadResourceResult:
    uri = str(params.uri)
    contents: Any
    if uri == "test://static-text":
        words = "This is the content of the static text resource."
        contents = types.TextResourceContents(uri=uri, mime_type="text/plain", text=words)
    elif uri == "test://static-binary":
        contents = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
    elif uri == "test://watched-resource":
        contents = types.TextResourceContents(uri=uri, mime_type="text/plain", text="watched")
    elif uri.startswith("test://template/") and uri.endswith("/data"):
        number = uri.removeprefix("test://template/").removesuffix("/data")
        words = json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"})
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=words)
    else:
        raise MCPError(-32602 if is_modern(ctx) else -32002, "Resource not found", {"uri": uri})
    return types.ReadResourceResult(contents=[contents])
