"""The shim: one stdio MCP server over Streamable HTTP. A program of its own that knows nothing of the mesh."""

from __future__ import annotations


def main() -> None:
    """Entry point of `mcpmesh-shim`."""
    from mcpmesh.shim.serve import main as run

    run()
