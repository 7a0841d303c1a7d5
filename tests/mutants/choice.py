"""Which mutants are tried: of the modules asked for, the first in an order that the seed makes.

A mutant's place in the order depends on the seed and on its own identity, so
a change elsewhere leaves the sample as it is: a survivor is in it again after
a test for it was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.mutants.mutation import Change, Mutant, changes, mutants

PACKAGES: Final = ("plan", "catalog", "model", "consul", "reconcile", "ingress", "verify", "shim")


def modules(root: Path, only: list[str]) -> dict[str, set[int]]:
    """Paths of modules, relative to the root, each with the lines that are asked for; none means all."""
    found: dict[str, set[int]] = {}
    for word in only or [f"agent/mcpmesh/{package}" for package in PACKAGES]:
        path, _, line = word.partition(":")
        place = root / path
        if not place.exists():
            raise SystemExit(f"mutants: cannot find {path}; name a file or a folder below {root}")
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            found.setdefault(str(file.relative_to(root)), set()).update({int(line)} if line else ())
    return found


def choose(root: Path, places: dict[str, set[int]], count: int, seed: int) -> list[tuple[Mutant, Change]]:
    """The sample, in its order, with what each mutant changes."""
    sources = {path: (root / path).read_text() for path in places}
    everything = [mutant for path, source in sources.items() for mutant in mutants(path, source)]
    lines_asked = any(places.values())
    # Where lines are asked for, it takes the change to know a mutant's line. A few do not compile and are replaced.
    chosen = everything if lines_asked else sample(everything, count + count // 10, seed)
    found: dict[Mutant, Change] = {}
    for path, source in sources.items():
        found |= changes(path, source, {mutant for mutant in chosen if mutant.path == path})
    fitting = [
        mutant for mutant, change in found.items() if not places[mutant.path] or change.line in places[mutant.path]
    ]
    return [(mutant, found[mutant]) for mutant in sample(fitting, count, seed)]


def sample(mutants: Iterable[Mutant], count: int, seed: int) -> list[Mutant]:
    """The first `count` in the seed's order."""
    return sorted(mutants, key=lambda mutant: _place(mutant, seed))[:count]


def _place(mutant: Mutant, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{mutant.identity}".encode()).digest()
