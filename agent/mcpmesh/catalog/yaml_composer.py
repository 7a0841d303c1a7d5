"""Nodes from YAML events, within bounds and without recursion.

Aliases and merge keys work, and count in full; tags beyond the plain ones
don't. Nothing is constructed but mappings, lists and scalars, and these as
YAML 1.2 has them: `no` is a word, `12:30` is a text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from mcpmesh.catalog.syntax_tree import Node, Scalar
from mcpmesh.errors import CatalogError, Problem, ProblemKind

# Counted with every alias expanded, so that ten lines can't become a billion values.
MAX_NODES = 50_000
# A catalog needs six levels.
MAX_DEPTH = 24

_INT = re.compile(r"[-+]?[0-9]{1,18}")
_BASED = re.compile(r"0o[0-7]{1,20}|0x[0-9a-fA-F]{1,16}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,30}|[0-9]{1,30}(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,3})?")
_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TAG = "tag:yaml.org,2002:"
_TAGS = {None, "!", *(_TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq"))}


def compose(path: Path, events: Iterator[yaml.Event]) -> tuple[Node | None, list[Problem]]:
    """The root of the one document in `events`, None where it can't be used, and all that is wrong with its writing."""
    composer = _Composer(path)
    try:
        composer.run(events)
    except CatalogError as error:
        return None, [*composer.problems, *error.problems]
    if composer.root is None:
        message = "is empty; begin with `version: 1` and `services:` (docs/catalog.md)"
        return None, [Problem(path, None, "", message, ProblemKind.EMPTY)]
    return composer.root, composer.problems


def _shown(key: str) -> str:
    """A key as it can stand in a message: on one line, of a length that can be read."""
    return "".join(character if character.isprintable() else "?" for character in key[:64])


def _resolve(text: str) -> Scalar:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


@dataclasses.dataclass
class _Open:
    """A mapping or list that is still being read."""

    event: yaml.CollectionStartEvent
    line: int
    field: str
    value: dict[str, Node] | list[Node]
    merged: list[Node] = dataclasses.field(default_factory=list)
    key: str | None = None
    key_line: int = 0
    size: int = 1
    height: int = 1

    @property
    def wants_key(self) -> bool:
        return isinstance(self.value, dict) and self.key is None


class _Composer:
    """Nodes from events, without recursion, within the bounds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int, int]] = {}
        self._documents = 0

    def run(self, events: Iterator[yaml.Event]) -> None:
        for event in events:
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.DocumentStartEvent):
                self._documents += 1
                if self._documents > 1:
                    self._stop(line, "begins a second document; keep one, or put it in a file of its own (-f twice)")
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event, line)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event, line)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._begin(event, line)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end()

    def _stop(self, line: int, message: str) -> None:
        raise CatalogError([Problem(self.path, line, self._place(line)[1], message)])

    def _place(self, line: int) -> tuple[int, str]:
        """Line and field of the value that comes next: in a mapping its key's line."""
        if not self._stack:
            return line, ""
        top = self._stack[-1]
        if isinstance(top.value, list):
            return line, f"{top.field}[{len(top.value)}]"
        if top.key is None:
            return line, top.field
        return top.key_line, f"{top.field}.{_shown(top.key)}" if top.field else _shown(top.key)

    def _checked_tag(self, tag: str | None, line: int) -> None:
        if tag not in _TAGS:
            self._stop(line, "has a YAML tag that means nothing here; remove what begins with `!`")

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        self._checked_tag(event.tag, line)
        text = event.value
        if any("\ud800" <= character <= "\udfff" for character in text):
            self._stop(line, "holds half of a surrogate pair; write the character itself")
        if self._stack and self._stack[-1].wants_key:
            self._key(self._stack[-1], text, line)
            return
        literal = not event.implicit[0] if event.tag is None else event.tag in ("!", _TAG + "str")
        at, name = self._place(line)
        self._add(Node(self.path, at, name, text if literal else _resolve(text), text), 1, 1, event.anchor)

    def _key(self, top: _Open, text: str, line: int) -> None:
        assert isinstance(top.value, dict)
        top.key, top.key_line = text, line
        if text in top.value:
            first = top.value[text].line
            message = f"is there twice, first in line {first}; keep one"
            self.problems.append(Problem(self.path, line, self._place(line)[1], message))

    def _alias(self, event: yaml.AliasEvent, line: int) -> None:
        if self._stack and self._stack[-1].wants_key:
            self._stop(line, "has an alias as a key; write the key out")
        if event.anchor not in self._anchors:
            self._stop(line, f"*{event.anchor} stands for nothing; put &{event.anchor} before what it repeats")
        node, size, height = self._anchors[str(event.anchor)]
        self._add(node, size, height, None)

    def _begin(self, event: yaml.CollectionStartEvent, line: int) -> None:
        self._checked_tag(event.tag, line)
        if self._stack and self._stack[-1].wants_key:
            self._stop(line, "has a list or mapping as a key; keys are words")
        if len(self._stack) >= MAX_DEPTH:
            self._stop(line, f"is nested more than {MAX_DEPTH} deep")
        at, name = self._place(line)
        self._stack.append(_Open(event, at, name, {} if isinstance(event, yaml.MappingStartEvent) else []))

    def _end(self) -> None:
        done = self._stack.pop()
        if isinstance(done.value, dict):
            for source in done.merged:
                for key, node in source.mapping.items():
                    done.value.setdefault(key, node)
        self._add(Node(self.path, done.line, done.field, done.value), done.size, done.height, done.event.anchor)

    def _add(self, node: Node, size: int, height: int, anchor: str | None) -> None:
        if anchor:
            self._anchors[anchor] = (node, size, height)
        if not self._stack:
            self.root = node
            return
        top = self._stack[-1]
        top.size += size
        top.height = max(top.height, height + 1)
        if top.size > MAX_NODES or len(self._stack) + height > MAX_DEPTH + 1:
            self._stop(node.line, f"has more than {MAX_NODES} values or {MAX_DEPTH} levels, aliases counted in full")
        if isinstance(top.value, list):
            top.value.append(node)
            return
        assert top.key is not None
        if top.key == "<<":
            self._merge(top, node)
        else:
            top.value[top.key] = node
        top.key = None

    def _merge(self, top: _Open, node: Node) -> None:
        sources = node.items if isinstance(node.value, list) else [node]
        if not all(isinstance(source.value, dict) for source in sources):
            self._stop(top.key_line, "merges something that is no mapping; write `<<: *name`")
        top.merged.extend(sources)
