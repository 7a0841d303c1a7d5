"""Catalogs from files.

    bytes → syntax trees → one tree of all files → services with defaults → values expanded → keys checked → ServiceSpec

Later files overlay earlier ones. All mistakes are found in one go. Bad input of any kind raises CatalogError and
nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mcpmesh.catalog.cross_references import check_cross_references
from mcpmesh.catalog.formats.detect import as_mesh_yaml
from mcpmesh.catalog.merge import overlay, without_nulls
from mcpmesh.catalog.parse import parse_file
from mcpmesh.catalog.problems import Problems
from mcpmesh.catalog.schema import EXTENSION_PREFIX, CommonKeys, ServiceKeys
from mcpmesh.catalog.schema_errors import problems_of
from mcpmesh.catalog.spec_builder import build_spec
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.catalog.validate import applicable_defaults, check_name, check_shape
from mcpmesh.catalog.values import Expander
from mcpmesh.errors import CatalogError, Problem
from mcpmesh.model.service import Catalog, ServiceSpec

Model = TypeVar("Model", bound=BaseModel)


def load(paths: Sequence[Path], environ: Mapping[str, str]) -> Catalog:
    """The catalog in the files `paths`, with variables from `environ`.

    Raises CatalogError with every problem of every file.
    """
    if not paths:
        message = "no catalog was named; give a mesh.yaml or an .mcp.json with -f"
        raise CatalogError([Problem(Path(), None, "", message)])
    problems = Problems()
    tree = _tree(paths, problems)
    if tree is None:
        problems.raise_if_any(paths)
        raise AssertionError("a file that cannot be read has a problem")
    expander = Expander(environ, problems)
    _check_defaults(tree, expander, problems)
    services = _services(tree, expander, problems)
    specs: dict[str, ServiceSpec] = {}
    for name, node in services.items():
        keys = _accepted(node, ServiceKeys, problems)
        if keys is not None:
            specs[name] = build_spec(name, keys, node, environ)
    check_cross_references(services, problems)
    problems.raise_if_any(paths)
    return Catalog(services=specs, warnings=problems.distinct_warnings(), sources=tuple(paths))


def secret_files(paths: Sequence[Path], environ: Mapping[str, str]) -> frozenset[Path]:
    """The files that `file:` values of services name; none where the catalog cannot be read."""
    problems = Problems()
    tree = _tree(paths, problems)
    if tree is None:
        return frozenset()
    expander = Expander(environ, problems)
    _services(tree, expander, problems)
    return frozenset(expander.secret_files)


def _tree(paths: Sequence[Path], problems: Problems) -> Node | None:
    """All files as one tree of `services` and perhaps `defaults`; None where one of them cannot be read."""
    roots = []
    for path in paths:
        root, syntax_problems = parse_file(path)
        problems.found.extend(syntax_problems)
        roots.append(root)
    whole: Node | None = None
    for root in roots:
        if root is None:
            return None
        tree = as_mesh_yaml(root, problems)
        whole = overlay(whole, tree) if whole else tree
    if whole and not whole.mapping["services"].mapping and not problems.found:
        problems.warn(whole.mapping["services"], "has no service")
    return whole


def _check_defaults(tree: Node, expander: Expander, problems: Problems) -> None:
    if "defaults" in tree.mapping:
        _accepted(_expanded(tree.mapping["defaults"], expander, problems), CommonKeys, problems)


def _services(tree: Node, expander: Expander, problems: Problems) -> dict[str, Node]:
    """The services that are not disabled, complete with defaults and values."""
    services = {}
    for name, written in tree.mapping["services"].mapping.items():
        if written.get("disabled").value is True:
            problems.warn(written, "is disabled and left out")
        else:
            complete = _with_defaults(name, written, tree.mapping.get("defaults"), problems)
            services[name] = _expanded(complete, expander, problems)
    return services


def _with_defaults(name: str, written: Node, defaults: Node | None, problems: Problems) -> Node:
    """The service with the defaults that apply to it, its name and shape checked."""
    check_name(name, written, problems)
    if not isinstance(written.value, dict):
        empty = "is empty, and no earlier file has it to be removed; say how it starts"
        problems.add(written, empty if written.value is None else "has to be a mapping of keys to values")
        return written.with_value({})
    check_shape(without_nulls(written), problems)
    if defaults is None:
        return written
    return written.with_value(overlay(applicable_defaults(defaults, written), written).value)


def _expanded(node: Node, expander: Expander, problems: Problems) -> Node:
    """The keys of a service without nulls and without extensions, with their values expanded."""
    known = {key: inner for key, inner in node.mapping.items() if not key.startswith(EXTENSION_PREFIX)}
    nulls: list[Node] = []
    filled = without_nulls(node.with_value(known), nulls)
    for null in nulls:
        problems.warn(null, "is empty and has nothing to remove")
    return expander.expand_keys(filled)


def _accepted(node: Node, model: type[Model], problems: Problems) -> Model | None:
    """The keys as `model` has them; None where it refuses one."""
    try:
        return model.model_validate(node.plain())
    except ValidationError as error:
        problems.add_first_of_place(problems_of(error, node, model))
        return None
