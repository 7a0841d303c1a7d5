"""Words in, words out: a client of the agent's HTTP API, and of `up`, which starts the agent."""

from __future__ import annotations

import sys


def main() -> None:
    """The program `mcpmesh`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # A terminal without "✓" shows "?" instead of an error.
    from mcpmesh.cli.app import app

    app(prog_name="mcpmesh")
