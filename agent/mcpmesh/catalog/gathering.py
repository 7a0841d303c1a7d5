"""The files of a catalog as one tree: every format as a mesh.yaml, later files over earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcpmesh.catalog import ecosystem
from mcpmesh.catalog.merge import overlay, without_nulls
from mcpmesh.catalog.parse import read
from mcpmesh.catalog.problems import Findings
from mcpmesh.catalog.schema import VERSION, MeshKeys
from mcpmesh.catalog.syntax_tree import Node, nearest
from mcpmesh.catalog.validate import applicable, check_name, check_shape
from mcpmesh.catalog.values import Values

_TOP = tuple(MeshKeys.model_fields)
_SHOWN_IN_PROCESS_LISTS = ("command", "args", "http", "tcp", "cwd", "url")
_SECRET = ("env", "headers")


def gather(paths: Sequence[Path], findings: Findings) -> Node | None:
    """A tree of `services` and perhaps `defaults`; None where a file could not be read at all."""
    roots = []
    for path in paths:
        root, unreadable = read(path)
        findings.problems.extend(unreadable)
        roots.append(root)
    whole: Node | None = None
    for root in roots:
        if root is None:
            return None
        tree = as_mesh(root, findings)
        whole = overlay(whole, tree) if whole else tree
    if whole and not whole.mapping["services"].mapping and not findings.problems:
        findings.warn(whole.mapping["services"], "has no service")
    return whole


def as_mesh(root: Node, findings: Findings) -> Node:
    """One file in whichever format, as `services` and perhaps `defaults`."""
    key = ecosystem.root_key(root)
    if key:
        return root.with_value({"services": ecosystem.as_services(root, key, findings)})
    if not isinstance(root.value, dict):
        findings.refuse(root, "has to be a mapping with `version: 1` and `services:`, or with mcpServers")
    for name, node in root.mapping.items():
        if name not in _TOP and name != "$schema" and not name.startswith("x-"):
            guess = nearest(name, (*_TOP, "mcpServers")) or "; here can be version, defaults, services and x-…"
            findings.refuse(node, f"is no key of a mesh.yaml{guess}")
    if isinstance(root.value, dict):
        _check_version(root, findings)
    kept: dict[str, Node] = {"services": root.with_value({})}
    for name in ("defaults", "services"):
        if name in root.mapping:
            kept[name] = _mapping(root, name, findings)
    return root.with_value(kept)


def _check_version(root: Node, findings: Findings) -> None:
    version = root.mapping.get("version")
    if version is None:
        findings.refuse(root, f"has no version; write `version: {VERSION}` in its first line")
    elif version.value is True or version.value != VERSION:
        findings.refuse(version, f"has to be {VERSION}, the one format that this mcpmesh reads")


def _mapping(root: Node, name: str, findings: Findings) -> Node:
    node = root.mapping[name]
    if not isinstance(node.value, dict):
        what = "services by name" if name == "services" else "keys of services"
        findings.refuse(node, f"has to be a mapping of {what}" + ("; it is empty" if node.value is None else ""))
        return node.with_value({})
    return node


def prepared(name: str, written: Node, tree: Node, values: Values, findings: Findings) -> Node | None:
    """A service with defaults and variables filled in and its shape checked; None where it is disabled."""
    if written.get("disabled").value is True:
        findings.warn(written, "is disabled and left out")
        return None
    check_name(name, written, findings)
    if not isinstance(written.value, dict):
        empty = "is empty, and no earlier file has it to be removed; say how it starts"
        findings.refuse(written, empty if written.value is None else "has to be a mapping of keys to values")
        return written.with_value({})
    check_shape(without_nulls(written, []), findings)
    defaults = tree.mapping.get("defaults")
    node = written.with_value(overlay(applicable(defaults, written), written).value) if defaults else written
    return filled_in(node, values, findings)


def filled_in(node: Node, values: Values, findings: Findings) -> Node:
    """The keys of a service without nulls, and with variables and secret files read."""
    nulls: list[Node] = []
    known = {key: inner for key, inner in node.mapping.items() if not key.startswith("x-")}
    kept = without_nulls(node.with_value(known), nulls)
    for null in nulls:
        findings.warn(null, "is empty and has nothing to remove")
    return kept.with_value({key: _filled_in(key, inner, values) for key, inner in kept.mapping.items()})


def _filled_in(key: str, node: Node, values: Values) -> Node:
    if key in _SECRET:
        return node.with_value(
            {name: _secret(inner, values) for name, inner in node.value.items()}
            if isinstance(node.value, dict)
            else node.value
        )
    return _texts(node, values) if key in _SHOWN_IN_PROCESS_LISTS else node


def _secret(node: Node, values: Values) -> Node:
    if isinstance(node.value, dict | list):
        return node
    text = values.secret(node)
    return node.with_value(node.text if text is None else text)


def _texts(node: Node, values: Values) -> Node:
    if isinstance(node.value, dict):
        return node.with_value({key: _texts(inner, values) for key, inner in node.value.items()})
    if isinstance(node.value, list):
        return node.with_value([_texts(item, values) for item in node.value])
    text = values.text(node, visible=True)
    return node.with_value(node.text if text is None else text)
