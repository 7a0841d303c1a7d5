"""An `.mcp.json` as a mesh.yaml that means the same.

References stay references: no variable is read and no file opened but the one
that is converted. What means nothing to a mesh is kept under `x-` keys.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mcpmesh.catalog import ecosystem
from mcpmesh.catalog.merge import without_nulls
from mcpmesh.catalog.parse import read
from mcpmesh.catalog.problems import Findings
from mcpmesh.catalog.schema import VERSION
from mcpmesh.catalog.syntax_tree import Node, looks_secret
from mcpmesh.catalog.validate import check_name, check_shape
from mcpmesh.catalog.values import folder as folder_of
from mcpmesh.errors import CatalogError

_ORDER = ("command", "args", "url", "headers", "env", "cwd")
_HEAD = """\
# Made from {name} by `mcpmesh import`; docs/catalog.md explains every key.
"""
_STAY = "# Paths are relative to this file's folder: keep it where {name} is.\n"


@dataclass(frozen=True)
class Imported:
    """The text of a mesh.yaml, and what its reader should know."""

    text: str
    warnings: tuple[str, ...]


def to_mesh_yaml(path: Path, folder: Path | None = None) -> str:
    """The text alone; see `imported`."""
    return imported(path, folder).text


def imported(path: Path, folder: Path | None = None) -> Imported:
    """The file in mesh.yaml's words: saved in `folder` (that of `path` by default), it is the same catalog.

    Secrets that stand in it literally stay where they were and are named in a
    warning, without their value. CatalogError where it isn't of that format or
    does not say how a server starts.
    """
    findings = Findings()
    root, problems = read(path)
    findings.problems.extend(problems)
    key = ecosystem.root_key(root) if root else None
    if root and key is None:
        findings.refuse(root, 'has no "mcpServers"; only a file of that format is imported')
    if root is None or key is None:
        raise CatalogError(findings.problems)
    services = ecosystem.as_services(root, key, findings)
    moved = folder is not None and folder.resolve() != folder_of(root).resolve()
    head = _HEAD if moved else _HEAD + _STAY
    blocks = [head.format(name=_one_line(path.name)), f"version: {VERSION}\n"]
    strangers = {
        ecosystem.foreign(other): node for other, node in root.mapping.items() if other not in (key, "$schema")
    }
    if strangers:
        blocks.append(_dumped({other: node.plain() for other, node in strangers.items()}))
    blocks.append("\nservices:\n" if services.mapping else "\nservices: {}\n")
    for name, node in services.mapping.items():
        blocks.append(_service(name, _rooted(node, findings) if moved else node, findings))
    findings.raise_if_any([path])
    return Imported("".join(blocks), tuple(dict.fromkeys(findings.warnings)))


def _service(name: str, node: Node, findings: Findings) -> str:
    service = without_nulls(node, [])
    disabled = service.get("disabled").value is True
    if not disabled:
        check_name(name, service, findings)
        check_shape(service, findings)
    for place in _in_plain_text(service):
        findings.warn(place, "may hold a secret in plain text; put it into a variable, ${NAME}, or a file, file:PATH")
    comment = "" if node.field.endswith(f".{name}") else f"  # was {node.field}\n"
    keys = sorted(service.mapping, key=lambda key: (*_ORDER, key).index(key))
    body = {key: _written(service.mapping[key], literal=key in _ORDER) for key in keys}
    return comment + textwrap.indent(_dumped({name: body}), "  ")


def _rooted(service: Node, findings: Findings) -> Node:
    """The service with a working directory that is the same from any folder."""
    cwd = service.get("cwd")
    if "command" not in service.mapping or cwd.text.startswith(("/", "~/")):
        return service
    if cwd.text.startswith("${"):
        findings.warn(cwd, "begins with a variable; where that is a relative path, make it absolute")
        return service
    rooted = cwd.with_value("", str(folder_of(service) / cwd.text))
    return service.with_value({**service.mapping, "cwd": rooted})


def _in_plain_text(service: Node) -> Iterator[Node]:
    for key in ("env", "headers"):
        for name, value in service.get(key).mapping.items():
            if looks_secret(name) and value.text and "${" not in value.text:
                yield value
    for argument in service.get("args").items:
        option, equals, text = argument.text.partition("=")
        if option.startswith("-") and equals and looks_secret(option) and "${" not in text:
            yield argument


class _Words(list[Any]):
    """A list that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's, with our words for lists."""


_Dumper.add_representer(
    _Words, lambda dumper, words: dumper.represent_sequence("tag:yaml.org,2002:seq", words, flow_style=True)
)


def _written(node: Node, *, literal: bool) -> Any:
    """The value for the dumper; `literal` keeps scalars as they were written, so that 1.10 does not become 1.1."""
    if isinstance(node.value, dict):
        return {key: _written(inner, literal=literal) for key, inner in node.value.items()}
    if isinstance(node.value, list):
        items = [_written(item, literal=literal) for item in node.value]
        return items if any(isinstance(item, dict | list) for item in items) else _Words(items)
    return node.text if literal else node.value


def _dumped(value: dict[str, Any]) -> str:
    # Unfolded, because the text is indented afterwards.
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 30)


def _one_line(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)
