"""The catalog files of a command: which ones it uses, and reading them without an agent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mcpmesh.errors import CatalogError, Problem

if TYPE_CHECKING:
    from mcpmesh.model.service import Catalog

# Used in this order where no file is named; MCP clients keep the second one in a project.
DEFAULTS = (Path("mesh.yaml"), Path(".mcp.json"))


def load_catalog(paths: list[Path]) -> Catalog:
    """The catalog of these files; raises CatalogError with every mistake in them."""
    from mcpmesh.catalog.loader import load

    return load(paths, os.environ)


def require_files(files: Sequence[Path]) -> list[Path]:
    """`files` as absolute paths; raises CatalogError with each path that is no file."""
    problems = [Problem(path, None, "", _reason(path)) for path in files if not path.is_file()]
    if problems:
        raise CatalogError(problems)
    return [path.resolve() for path in files]


def files_or_default(files: Sequence[Path]) -> list[Path]:
    """`files`, or the default file of the current folder; raises CatalogError where neither exists."""
    if files:
        return require_files(files)
    for path in DEFAULTS:
        if path.is_file():
            return [path.resolve()]
    folder = Path.cwd()
    raise CatalogError(
        [Problem(folder, None, "", "it has neither mesh.yaml nor .mcp.json; name the catalog: mcpmesh up -f FILE")]
    )


def files_that_may_appear(files: Sequence[Path]) -> list[Path]:
    """Like `files_or_default`, but files that are named need not exist yet."""
    return [path.resolve() for path in files] or files_or_default([])


def _reason(path: Path) -> str:
    return "it is a folder; name the file in it" if path.is_dir() else "there is no such file"
