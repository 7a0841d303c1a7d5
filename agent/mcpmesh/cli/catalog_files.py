"""Which catalog files a command means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcpmesh.errors import CatalogError, Problem

# What `up` looks for where no file is named; the second is what MCP clients keep in a project.
DEFAULTS = (Path("mesh.yaml"), Path(".mcp.json"))


def existing(files: Sequence[Path]) -> list[Path]:
    """`files`, absolute; raises CatalogError naming each that is no readable file."""
    problems = [Problem(path, None, "", _lack(path)) for path in files if not path.is_file()]
    if problems:
        raise CatalogError(problems)
    return [path.resolve() for path in files]


def chosen(files: Sequence[Path]) -> list[Path]:
    """`files`, or the default that is here; raises CatalogError when there is none."""
    if files:
        return existing(files)
    for path in DEFAULTS:
        if path.is_file():
            return [path.resolve()]
    here = Path.cwd()
    raise CatalogError(
        [Problem(here, None, "", "there is neither mesh.yaml nor .mcp.json here; name the catalog: mcpmesh up -f FILE")]
    )


def awaited(files: Sequence[Path]) -> list[Path]:
    """Like `chosen`, but what is named need not be there yet."""
    return [path.resolve() for path in files] or chosen([])


def _lack(path: Path) -> str:
    return "it is a folder; name the file in it" if path.is_dir() else "there is no such file"
