"""The MCP server behind the shim: its processes, or a remote server, and JSON-RPC with it."""
