"""From the files of a catalog to what is wanted.

    bytes → nodes with lines → one tree → defaults and variables → checked keys → ServiceSpec

Later files overlay earlier ones. Everything that is wrong is found at once;
bad input of whatever kind raises CatalogError and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mcpmesh.catalog.cross_references import check_relations
from mcpmesh.catalog.gathering import filled_in, gather, prepared
from mcpmesh.catalog.problems import Findings
from mcpmesh.catalog.schema import CommonKeys, ServiceKeys
from mcpmesh.catalog.schema_errors import problems
from mcpmesh.catalog.spec_builder import build
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.catalog.values import Values
from mcpmesh.errors import CatalogError, Problem
from mcpmesh.model.service import Catalog, ServiceSpec

Model = TypeVar("Model", bound=BaseModel)


def load(paths: Sequence[Path], environ: Mapping[str, str]) -> Catalog:
    """The catalog in `paths`, later files over earlier ones, variables taken from `environ`.

    CatalogError has every problem of every file.
    """
    if not paths:
        raise CatalogError(
            [Problem(Path(), None, "", "no catalog was named; give a mesh.yaml or an .mcp.json with -f")]
        )
    findings = Findings()
    tree = gather(paths, findings)
    if tree is None:
        findings.raise_if_any(paths)
        raise AssertionError("a file that could not be read has a problem")
    _check_defaults(tree, environ, findings)
    nodes, _ = _services(tree, environ, findings)
    specs: dict[str, ServiceSpec] = {}
    for name, node in nodes.items():
        keys = _checked(node, ServiceKeys, findings)
        if keys is not None:
            specs[name] = build(name, keys, node, environ)
    check_relations(nodes, findings)
    findings.raise_if_any(paths)
    return Catalog(services=specs, warnings=tuple(dict.fromkeys(findings.warnings)), sources=tuple(paths))


def secret_files(paths: Sequence[Path], environ: Mapping[str, str]) -> frozenset[Path]:
    """The files that `file:` values refer to; none where the catalog can't be read."""
    findings = Findings()
    tree = gather(paths, findings)
    return frozenset(_services(tree, environ, findings)[1]) if tree else frozenset()


def _services(tree: Node, environ: Mapping[str, str], findings: Findings) -> tuple[dict[str, Node], list[Path]]:
    values = Values(environ, findings)
    nodes = {}
    for name, written in tree.mapping["services"].mapping.items():
        node = prepared(name, written, tree, values, findings)
        if node is not None:
            nodes[name] = node
    return nodes, values.files


def _check_defaults(tree: Node, environ: Mapping[str, str], findings: Findings) -> None:
    if "defaults" in tree.mapping:
        _checked(filled_in(tree.mapping["defaults"], Values(environ, findings), findings), CommonKeys, findings)


def _checked(node: Node, model: type[Model], findings: Findings) -> Model | None:
    try:
        return model.model_validate(node.plain())
    except ValidationError as error:
        findings.add(problems(error, node, model))
        return None
