"""`mcpServers`: the `.mcp.json` of Claude Code, and the files of Claude Desktop, Cursor and others."""

from __future__ import annotations

from mcpmesh.catalog.formats.client_servers import ClientFormat

MCP_JSON = ClientFormat("mcpServers")
