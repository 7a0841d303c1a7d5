"""The command line: clients of the agent's HTTP API, and `up`, which also starts the agent.

`commands/` has one module for each command, `render/` what is printed, `wait/` what commands wait for.
"""

from __future__ import annotations

import sys


def main() -> None:
    """The program `mcpmesh`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # A terminal without "✓" shows "?" instead of an error.
    from mcpmesh.cli.app import app

    app(prog_name="mcpmesh")
