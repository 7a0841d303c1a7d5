"""Later files over earlier ones, and services over the defaults."""

from __future__ import annotations

from mcpmesh.catalog.syntax_tree import Node


def overlay(base: Node, over: Node) -> Node:
    """`base` with what `over` says: mappings key by key, anything else replaced, null removed.

    A null that has nothing to remove stays, so that it can be told to whoever wrote it.
    """
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        if key not in merged:
            merged[key] = node
        elif node.value is None:
            del merged[key]
        else:
            merged[key] = overlay(merged[key], node)
    return base.with_value(merged)


def without_nulls(node: Node, found: list[Node]) -> Node:
    """The same without nulls in mappings; those that there were are added to `found`."""
    if isinstance(node.value, list):
        return node.with_value([without_nulls(item, found) for item in node.value])
    if not isinstance(node.value, dict):
        return node
    kept: dict[str, Node] = {}
    for key, inner in node.value.items():
        if inner.value is None:
            found.append(inner)
        else:
            kept[key] = without_nulls(inner, found)
    return node.with_value(kept)
