"""The rules of MCP, without I/O: revisions, checks of requests, translation between the eras."""
