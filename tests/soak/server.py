"""The MCP server of the soak tests, built once for a run."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def built() -> Iterator[str]:
    """Build it and return its path; Go's cache makes the second build quick."""
    with tempfile.TemporaryDirectory(prefix="mcpmesh-soak-") as folder:
        program = Path(folder, "soak-server")
        subprocess.run(["go", "build", "-o", str(program), "."], cwd=Path(__file__).parent / "server", check=True)
        yield str(program)
