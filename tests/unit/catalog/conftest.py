from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import pytest

from mcpmesh.catalog.loader import load
from mcpmesh.errors import CatalogError
from mcpmesh.model.service import Catalog


@dataclass
class Folder:
    """A folder of catalog files, and what comes of loading them."""

    path: Path
    environ: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        file = self.path / name
        file.write_text(dedent(text))
        file.chmod(mode)
        return file

    def services(self, text: str) -> Path:
        """A mesh.yaml of these services."""
        return self.write("mesh.yaml", "version: 1\nservices:\n" + _indented(text))

    def load(self, *paths: Path, environ: Mapping[str, str] | None = None) -> Catalog:
        return load(paths, self.environ if environ is None else environ)

    def refused(self, *paths: Path) -> list[tuple[int | None, str, str]]:
        """Line, field and message of each problem."""
        with pytest.raises(CatalogError) as caught:
            self.load(*paths)
        return [(problem.line, problem.field, problem.message) for problem in caught.value.problems]

    def places(self, *paths: Path) -> list[tuple[int | None, str]]:
        return [(line, name) for line, name, _ in self.refused(*paths)]


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" if line.strip() else "\n" for line in dedent(text).splitlines())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
