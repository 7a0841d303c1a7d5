"""Syntax trees from YAML events, within bounds and without recursion.

Aliases and merge keys work, and each use of an alias counts in full. Tags other than those of YAML's plain types are
refused. Only mappings, lists and scalars are made, with the scalars of YAML 1.2: `no` and `12:30` are texts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import yaml

from mcpmesh.catalog.syntax_tree import Node, Scalar
from mcpmesh.errors import CatalogError, Problem, ProblemKind

# Values with every alias expanded, so that ten lines cannot become a billion values.
MAX_NODES = 50_000
# Levels of nesting. A catalog needs six.
MAX_DEPTH = 24
# Longer keys are cut off in messages.
_SHOWN_KEY_CHARACTERS = 64

_INT = re.compile(r"[-+]?[0-9]{1,18}")
_BASED_INT = re.compile(r"0o[0-7]{1,20}|0x[0-9a-fA-F]{1,16}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,30}|[0-9]{1,30}(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,3})?")
_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TAG = "tag:yaml.org,2002:"
_TAGS = {None, "!", *(_TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq"))}
_TEXT_TAGS = ("!", _TAG + "str")
_MERGE_KEY = "<<"


def compose(path: Path, events: Iterator[yaml.Event]) -> tuple[Node | None, list[Problem]]:
    """The root of the one document in `events`, and all problems of its syntax.

    The root is None where the document cannot be used.
    """
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
    """A key for a message: on one line, and not too long to read."""
    return "".join(character if character.isprintable() else "?" for character in key[:_SHOWN_KEY_CHARACTERS])


def _scalar_of(text: str) -> Scalar:
    """The value of a scalar without quotes and tags."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _BASED_INT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


@dataclasses.dataclass(frozen=True)
class _Anchored:
    """A value with an anchor; `size` counts the values in it, `height` its levels."""

    node: Node
    size: int
    height: int


@dataclasses.dataclass
class _OpenCollection:
    """A mapping or list whose end has not been read yet."""

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
    def expects_key(self) -> bool:
        return isinstance(self.value, dict) and self.key is None


class _Composer:
    """Builds the tree of one document."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._stack: list[_OpenCollection] = []
        self._anchors: dict[str, _Anchored] = {}
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

    def _stop(self, line: int, message: str) -> NoReturn:
        raise CatalogError([Problem(self.path, line, self._place(line)[1], message)])

    def _place(self, line: int) -> tuple[int, str]:
        """Line and field of the next value; inside a mapping the line is that of its key."""
        if not self._stack:
            return line, ""
        top = self._stack[-1]
        if isinstance(top.value, list):
            return line, f"{top.field}[{len(top.value)}]"
        if top.key is None:
            return line, top.field
        return top.key_line, f"{top.field}.{_shown(top.key)}" if top.field else _shown(top.key)

    def _check_tag(self, tag: str | None, line: int) -> None:
        if tag not in _TAGS:
            self._stop(line, "has a YAML tag that is not supported; remove the word that begins with `!`")

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        self._check_tag(event.tag, line)
        text = event.value
        if any("\ud800" <= character <= "\udfff" for character in text):
            self._stop(line, "holds half of a surrogate pair; write the character itself")
        if self._stack and self._stack[-1].expects_key:
            self._key(self._stack[-1], text, line)
            return
        is_text = not event.implicit[0] if event.tag is None else event.tag in _TEXT_TAGS
        line, field = self._place(line)
        node = Node(self.path, line, field, text if is_text else _scalar_of(text), text)
        self._add(_Anchored(node, 1, 1), event.anchor)

    def _key(self, top: _OpenCollection, text: str, line: int) -> None:
        assert isinstance(top.value, dict)
        top.key, top.key_line = text, line
        if text in top.value:
            message = f"is written twice, first in line {top.value[text].line}; keep one"
            self.problems.append(Problem(self.path, line, self._place(line)[1], message))

    def _alias(self, event: yaml.AliasEvent, line: int) -> None:
        if self._stack and self._stack[-1].expects_key:
            self._stop(line, "has an alias as a key; write the key out")
        anchored = self._anchors.get(str(event.anchor))
        if anchored is None:
            self._stop(
                line, f"has the alias *{event.anchor} of nothing; write &{event.anchor} before the value to repeat"
            )
        self._add(anchored, None)

    def _begin(self, event: yaml.CollectionStartEvent, line: int) -> None:
        self._check_tag(event.tag, line)
        if self._stack and self._stack[-1].expects_key:
            self._stop(line, "has a list or mapping as a key; a key has to be a text")
        if len(self._stack) >= MAX_DEPTH:
            self._stop(line, f"is nested more than {MAX_DEPTH} levels deep; a catalog needs six")
        line, field = self._place(line)
        self._stack.append(_OpenCollection(event, line, field, {} if isinstance(event, yaml.MappingStartEvent) else []))

    def _end(self) -> None:
        done = self._stack.pop()
        if isinstance(done.value, dict):
            for source in done.merged:
                for key, node in source.mapping.items():
                    done.value.setdefault(key, node)
        node = Node(self.path, done.line, done.field, done.value)
        self._add(_Anchored(node, done.size, done.height), done.event.anchor)

    def _add(self, added: _Anchored, anchor: str | None) -> None:
        """Adds a complete value to the collection that is open, or makes it the root."""
        node = added.node
        if anchor:
            self._anchors[anchor] = added
        if not self._stack:
            self.root = node
            return
        top = self._stack[-1]
        top.size += added.size
        top.height = max(top.height, added.height + 1)
        if top.size > MAX_NODES or len(self._stack) + added.height > MAX_DEPTH + 1:
            self._stop(node.line, f"has more than {MAX_NODES} values or {MAX_DEPTH} levels, aliases counted in full")
        if isinstance(top.value, list):
            top.value.append(node)
            return
        assert top.key is not None
        if top.key == _MERGE_KEY:
            self._merge(top, node)
        else:
            top.value[top.key] = node
        top.key = None

    def _merge(self, top: _OpenCollection, node: Node) -> None:
        sources = node.items if isinstance(node.value, list) else [node]
        if not all(isinstance(source.value, dict) for source in sources):
            self._stop(top.key_line, "merges a value that is not a mapping; write `<<: *name`")
        top.merged.extend(sources)
