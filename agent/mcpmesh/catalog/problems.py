"""What was found while a catalog was read: everything at once, each place in its words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.errors import CatalogError, Problem


@dataclass
class Findings:
    """Problems, which make a catalog unusable, and warnings, which don't."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def refuse(self, node: Node, message: str) -> None:
        """Something wrong at `node`."""
        self.problems.append(node.problem(message))

    def warn(self, node: Node, message: str) -> None:
        """Something odd at `node` that can be lived with."""
        self.warnings.append(str(node.problem(message)))

    def add(self, problems: Iterable[Problem]) -> None:
        """Further problems, but for places that have one: a second one there is a consequence of the first."""
        known = {(problem.path, problem.line, problem.field) for problem in self.problems}
        self.problems.extend(p for p in problems if (p.path, p.line, p.field) not in known)

    def raise_if_any(self, paths: Sequence[Path]) -> None:
        """CatalogError with each problem once, by file and line."""
        if not self.problems:
            return
        order = {path: position for position, path in enumerate(paths)}
        raise CatalogError(
            sorted(dict.fromkeys(self.problems), key=lambda problem: (order.get(problem.path, -1), problem.line or 0))
        )
