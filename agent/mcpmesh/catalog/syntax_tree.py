"""A value of a file that still knows where it was written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mcpmesh.errors import Problem

Scalar = None | bool | int | float | str

_LOOKS_SECRET = re.compile(r"token|secret|passw|api[_-]?key|private[_-]?key|credential|authorization|cookie", re.I)


@dataclass(frozen=True)
class Node:
    """A scalar, mapping or list of a YAML or JSON file.

    `field` is its path as the file's author would say it, `services.files.args[0]`;
    `text` is a scalar as written, so that `0755` and `1.10` can be taken literally.
    """

    path: Path
    line: int
    field: str
    value: Scalar | dict[str, Node] | list[Node]
    text: str = ""

    @property
    def mapping(self) -> dict[str, Node]:
        """Its keys, and none where it is no mapping."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """Its entries, and none where it is no list."""
        return self.value if isinstance(self.value, list) else []

    def get(self, key: str) -> Node:
        """The value of `key`, null in its own place where there is none."""
        return self.mapping.get(key) or self.with_value(None, "")

    def with_value(self, value: Scalar | dict[str, Node] | list[Node], text: str | None = None) -> Node:
        """The same place with another value."""
        return Node(self.path, self.line, self.field, value, self.text if text is None else text)

    def plain(self) -> Any:
        """The bare value, without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def at(self, location: Sequence[int | str]) -> Node:
        """The node at `location`, or the nearest one above it that exists."""
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
        """Something wrong with it."""
        return Problem(self.path, self.line, self.field, message)


def looks_secret(name: str) -> bool:
    """Whether something of that name is likely to hold a secret."""
    return _LOOKS_SECRET.search(name) is not None


def nearest(word: str, known: Sequence[str]) -> str:
    """`; did you mean "x"?`, or nothing where no known word is near."""
    close = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def one_of(words: Sequence[str]) -> str:
    """The words as an enumeration: `a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
