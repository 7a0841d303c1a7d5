"""Every one-operator mutant of a module, by mutmut's operators.

Mutants are made inside functions only: a changed constant of a module is a
changed setting, and a test of it would repeat the number.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import libcst as cst
from mutmut.mutation import mutators

# The operators that carry a decision. Left out are mutmut's dropped arguments, changed strings and `= None`, four
# fifths of all that it makes: most of these end in a TypeError, or change the wording of a message.
OPERATORS: Final[dict[type[cst.CSTNode], tuple[Callable[..., Iterable[cst.CSTNode]], ...]]] = {
    cst.BaseNumber: (mutators.operator_number,),
    cst.Name: (mutators.operator_name,),
    cst.AugAssign: (mutators.operator_augmented_assignment,),
    cst.UnaryOperation: (mutators.operator_remove_unary_ops,),
    cst.Call: (
        mutators.operator_symmetric_string_methods_swap,
        mutators.operator_unsymmetrical_string_methods_swap,
    ),
    cst.CSTNode: (mutators.operator_keywords, mutators.operator_swap_op),
    cst.Match: (mutators.operator_match,),
    cst.IfExp: (mutators.operator_if_exp,),
}


@dataclass(frozen=True)
class Mutant:
    """One change in one function. Its identity stays the same while that function does."""

    path: str
    function: str
    operator: str
    # Which of the function's mutants by this operator, from 0.
    number: int

    @property
    def identity(self) -> str:
        """A name for it that no other mutant has."""
        return f"{self.path}::{self.function}::{self.operator}::{self.number}"


@dataclass(frozen=True)
class Change:
    """What a mutant does to the source of its module. Lines count from 1."""

    line: int
    before: str
    after: str
    source: str

    @property
    def diff(self) -> list[str]:
        """The changed lines with one line around them, without the names of files."""
        lines = difflib.unified_diff(self.before.splitlines(), self.source.splitlines(), lineterm="", n=1)
        return list(lines)[2:]


def mutants(path: str, source: str) -> list[Mutant]:
    """All of a module, in the order of its source."""
    return [mutant for mutant, _, _ in _all(path, cst.parse_module(source))]


def changes(path: str, source: str, wanted: set[Mutant]) -> dict[Mutant, Change]:
    """What the wanted mutants of this module change. A mutant that does not compile is left out."""
    module = cst.parse_module(source)
    found: dict[Mutant, Change] = {}
    for mutant, node, mutated in _all(path, module):
        if mutant not in wanted:
            continue
        changed = module.deep_replace(node, mutated)
        assert isinstance(changed, cst.Module)
        if (change := _change(source, changed.code)) and _compiles(changed.code):
            found[mutant] = change
    return found


def _change(before: str, after: str) -> Change | None:
    old, new = before.splitlines(), after.splitlines()
    for number, (old_line, new_line) in enumerate(zip(old, new, strict=False), 1):
        if old_line != new_line:
            return Change(line=number, before=before, after=new_line.strip(), source=after)
    return None


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def _all(path: str, module: cst.Module) -> Iterator[tuple[Mutant, cst.CSTNode, cst.CSTNode]]:
    visitor = _Visitor()
    module.visit(visitor)
    counted: Counter[tuple[str, str]] = Counter()
    for function, operator, node, mutated in visitor.found:
        number = counted[function, operator]
        counted[function, operator] += 1
        yield Mutant(path=path, function=function, operator=operator, number=number), node, mutated


class _Visitor(cst.CSTVisitor):
    """Collects (function, operator, node, mutated node)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, cst.CSTNode, cst.CSTNode]] = []
        self._names: list[str] = []
        self._functions = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator):
            return False
        if isinstance(node, cst.Param):
            # A default is evaluated at import, and a number in it is a setting.
            return False
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._names.append(node.name.value)
            self._functions += isinstance(node, cst.FunctionDef)
        elif self._functions:
            self._mutate(node)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self._names.pop()
            self._functions -= isinstance(original_node, cst.FunctionDef)

    def _mutate(self, node: cst.CSTNode) -> None:
        for node_type, operators in OPERATORS.items():
            if isinstance(node, node_type):
                for operator in operators:
                    name = operator.__name__.removeprefix("operator_")
                    function = ".".join(self._names)
                    self.found += [(function, name, node, mutated) for mutated in operator(node)]
