"""A mesh.yaml from a file of another format, such as an `.mcp.json`, that means the same.

References stay references: no variable is read, and no file is opened except the imported one. Keys that mean nothing
to a mesh are kept under `x-` keys.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mcpmesh.catalog.formats.client_servers import extension_key
from mcpmesh.catalog.formats.detect import format_of
from mcpmesh.catalog.merge import without_nulls
from mcpmesh.catalog.parse import parse_file
from mcpmesh.catalog.problems import Problems
from mcpmesh.catalog.schema import VERSION
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.catalog.validate import check_name, check_shape
from mcpmesh.catalog.values import looks_secret
from mcpmesh.errors import CatalogError

# The order of keys in the written file; others follow.
_KEY_ORDER = ("command", "args", "url", "headers", "env", "cwd")
_HEAD = """\
# Made from {name} by `mcpmesh import`; docs/catalog.md explains every key.
"""
_KEEP_FOLDER = "# Paths are relative to this file's folder: keep it where {name} is.\n"


@dataclass(frozen=True)
class Imported:
    """The text of a mesh.yaml, and warnings for the person who imports it."""

    text: str
    warnings: tuple[str, ...]


def import_file(path: Path, folder: Path | None = None) -> Imported:
    """The servers of the file as a mesh.yaml: saved in `folder` (that of `path` by default), it is the same catalog.

    A secret that stands in the file literally is copied, and a warning names its place without showing it. Raises
    CatalogError where the file is of no format that can be imported, or does not say how a server starts.
    """
    problems = Problems()
    root, syntax_problems = parse_file(path)
    problems.found.extend(syntax_problems)
    format_ = format_of(root) if root else None
    if root and format_ is None:
        problems.add(root, 'has no "mcpServers"; only a file of that format is imported')
    if root is None or format_ is None:
        raise CatalogError(problems.found)
    services = format_.services(root, problems)
    moved = folder is not None and folder.resolve() != root.folder.resolve()
    head = _HEAD if moved else _HEAD + _KEEP_FOLDER
    blocks = [head.format(name=_one_line(path.name)), f"version: {VERSION}\n"]
    extensions = {
        extension_key(key): node.plain()
        for key, node in root.mapping.items()
        if key not in (format_.servers_key, "$schema")
    }
    if extensions:
        blocks.append(_yaml(extensions))
    blocks.append("\nservices:\n" if services.mapping else "\nservices: {}\n")
    for name, node in services.mapping.items():
        blocks.append(_service(name, _with_absolute_cwd(node, problems) if moved else node, problems))
    problems.raise_if_any([path])
    return Imported("".join(blocks), problems.distinct_warnings())


def _service(name: str, node: Node, problems: Problems) -> str:
    service = without_nulls(node)
    if service.get("disabled").value is not True:
        check_name(name, service, problems)
        check_shape(service, problems)
    for place in _literal_secrets(service):
        problems.warn(place, "may hold a secret in plain text; put it into a variable, ${NAME}, or a file, file:PATH")
    comment = "" if node.field.endswith(f".{name}") else f"  # was {node.field}\n"
    keys = sorted(service.mapping, key=lambda key: (*_KEY_ORDER, key).index(key))
    body = {key: _dumpable(service.mapping[key], literal=key in _KEY_ORDER) for key in keys}
    return comment + textwrap.indent(_yaml({name: body}), "  ")


def _with_absolute_cwd(service: Node, problems: Problems) -> Node:
    """The service with a working directory that is the same from any folder."""
    cwd = service.get("cwd")
    if "command" not in service.mapping or cwd.text.startswith(("/", "~/")):
        return service
    if cwd.text.startswith("${"):
        problems.warn(cwd, "begins with a variable; make its value absolute where it is a relative path")
        return service
    absolute = cwd.with_value("", str(service.folder / cwd.text))
    return service.with_value({**service.mapping, "cwd": absolute})


def _literal_secrets(service: Node) -> Iterator[Node]:
    """The values that look like secrets and stand in the file itself."""
    for key in ("env", "headers"):
        for name, value in service.get(key).mapping.items():
            if looks_secret(name) and value.text and "${" not in value.text:
                yield value
    for argument in service.get("args").items:
        option, equals, text = argument.text.partition("=")
        if option.startswith("-") and equals and looks_secret(option) and "${" not in text:
            yield argument


class _InlineList(list[Any]):
    """A list that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, with lists on one line."""


_Dumper.add_representer(
    _InlineList, lambda dumper, words: dumper.represent_sequence("tag:yaml.org,2002:seq", words, flow_style=True)
)


def _dumpable(node: Node, *, literal: bool) -> Any:
    """The value for the dumper; with `literal`, scalars stay as they were written, so that 1.10 is not 1.1."""
    if isinstance(node.value, dict):
        return {key: _dumpable(inner, literal=literal) for key, inner in node.value.items()}
    if isinstance(node.value, list):
        items = [_dumpable(item, literal=literal) for item in node.value]
        return items if any(isinstance(item, dict | list) for item in items) else _InlineList(items)
    return node.text if literal else node.value


def _yaml(value: dict[str, Any]) -> str:
    # Lines are not folded, because the text is indented afterwards.
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 30)


def _one_line(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)
