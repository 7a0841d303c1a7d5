"""Problems and warnings of one catalog: collected while it is read, reported all at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.errors import CatalogError, Problem


@dataclass
class Problems:
    """Problems make a catalog unusable. Warnings do not."""

    found: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, node: Node, message: str) -> None:
        """A mistake at `node`."""
        self.found.append(node.problem(message))

    def warn(self, node: Node, message: str) -> None:
        """Something at `node` that is odd, and that the mesh can work with."""
        self.warnings.append(str(node.problem(message)))

    def add_first_of_place(self, problems: Iterable[Problem]) -> None:
        """Adds problems at places that have none yet: a second one there follows from the first."""
        known = {(problem.path, problem.line, problem.field) for problem in self.found}
        self.found.extend(p for p in problems if (p.path, p.line, p.field) not in known)

    def distinct_warnings(self) -> tuple[str, ...]:
        """Each warning once, in the order in which they were found."""
        return tuple(dict.fromkeys(self.warnings))

    def raise_if_any(self, paths: Sequence[Path]) -> None:
        """Raises CatalogError with each problem once, ordered by file (as in `paths`) and line."""
        if not self.found:
            return
        order = {path: position for position, path in enumerate(paths)}
        raise CatalogError(
            sorted(dict.fromkeys(self.found), key=lambda problem: (order.get(problem.path, -1), problem.line or 0))
        )


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The hint `; did you mean "x"?`; empty where no known word is similar."""
    close = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def one_of(words: Sequence[str]) -> str:
    """The words as an enumeration: `a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
