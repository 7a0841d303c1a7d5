"""mesh.yaml: `version`, `services` and perhaps `defaults`."""

from __future__ import annotations

from mcpmesh.catalog.problems import Problems, did_you_mean
from mcpmesh.catalog.schema import EXTENSION_PREFIX, VERSION, MeshKeys
from mcpmesh.catalog.syntax_tree import Node

_ROOT_KEYS = tuple(MeshKeys.model_fields)
# For the hint on a misspelt key: what a person who writes another format may have meant.
_OTHER_ROOT_KEYS = ("mcpServers",)


def checked(root: Node, problems: Problems) -> Node:
    """The `services` and perhaps `defaults` of a mesh.yaml, each a mapping."""
    if isinstance(root.value, dict):
        _check_keys(root, problems)
        _check_version(root, problems)
    else:
        problems.add(root, "has to be a mapping with `version: 1` and `services:`, or with mcpServers")
    tree = {"services": root.with_value({})}
    if "defaults" in root.mapping:
        tree["defaults"] = _mapping(root.mapping["defaults"], "keys of services", problems)
    if "services" in root.mapping:
        tree["services"] = _mapping(root.mapping["services"], "services by name", problems)
    return root.with_value(tree)


def _check_keys(root: Node, problems: Problems) -> None:
    for key, node in root.mapping.items():
        if key not in _ROOT_KEYS and key != "$schema" and not key.startswith(EXTENSION_PREFIX):
            hint = did_you_mean(key, (*_ROOT_KEYS, *_OTHER_ROOT_KEYS))
            problems.add(
                node, f"is no key of a mesh.yaml{hint or '; the keys here are version, defaults, services and x-…'}"
            )


def _check_version(root: Node, problems: Problems) -> None:
    version = root.mapping.get("version")
    if version is None:
        problems.add(root, f"has no version; write `version: {VERSION}` in its first line")
    elif version.value is True or version.value != VERSION:
        problems.add(version, f"has to be {VERSION}, the one format that this mcpmesh reads")


def _mapping(node: Node, content: str, problems: Problems) -> Node:
    if isinstance(node.value, dict):
        return node
    problems.add(node, f"has to be a mapping of {content}" + ("; it is empty" if node.value is None else ""))
    return node.with_value({})
