"""Mappings on top of others: later files over earlier ones, services over the defaults."""

from __future__ import annotations

from mcpmesh.catalog.syntax_tree import Node


def overlay(base: Node, over: Node) -> Node:
    """`base` with `over` on top: mappings are merged key by key, any other value is replaced, null removes a key.

    A null that has nothing to remove stays in the outcome, so that a warning can name it.
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


def without_nulls(node: Node, removed: list[Node] | None = None) -> Node:
    """The same without the nulls of mappings; each null is appended to `removed`."""
    if isinstance(node.value, list):
        return node.with_value([without_nulls(item, removed) for item in node.value])
    if not isinstance(node.value, dict):
        return node
    filled: dict[str, Node] = {}
    for key, inner in node.value.items():
        if inner.value is not None:
            filled[key] = without_nulls(inner, removed)
        elif removed is not None:
            removed.append(inner)
    return node.with_value(filled)
