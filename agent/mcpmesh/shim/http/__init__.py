"""The HTTP server of the shim: connections, requests, answers. It knows the headers of MCP, not its messages."""
