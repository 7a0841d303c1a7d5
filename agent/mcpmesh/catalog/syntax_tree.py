"""The values of a YAML or JSON file, each with the place where it was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpmesh.errors import Problem

Scalar = None | bool | int | float | str


@dataclass(frozen=True)
class Node:
    """A scalar, mapping or list of a file.

    `line` counts from 1; for a value of a mapping it is the line of its key. `field` is the path of the value as the
    file's author would write it: `services.files.args[0]`. `text` is a scalar as it was written, so that `0755` and
    `1.10` can be taken literally.
    """

    path: Path
    line: int
    field: str
    value: Scalar | dict[str, Node] | list[Node]
    text: str = ""

    @property
    def folder(self) -> Path:
        """The folder of the file, from which relative paths in it start."""
        return self.path.absolute().parent

    @property
    def mapping(self) -> dict[str, Node]:
        """The entries of a mapping; empty for any other value."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The entries of a list; empty for any other value."""
        return self.value if isinstance(self.value, list) else []

    def get(self, key: str) -> Node:
        """The value of `key`; where there is none, a null at the place of this node."""
        return self.mapping.get(key) or self.with_value(None, "")

    def with_value(self, value: Scalar | dict[str, Node] | list[Node], text: str | None = None) -> Node:
        """Another value at the same place."""
        return Node(self.path, self.line, self.field, value, self.text if text is None else text)

    def plain(self) -> Any:
        """The value without places: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def at(self, location: Sequence[int | str]) -> Node:
        """The node at `location`, or the deepest one on the way to it that exists."""
        node = self
        for step in location:
            inner: Node | None = None
            if isinstance(node.value, dict):
                inner = node.value.get(str(step))
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                inner = node.value[step]
            if inner is None:
                break
            node = inner
        return node

    def problem(self, message: str) -> Problem:
        """A problem with this value."""
        return Problem(self.path, self.line, self.field, message)
