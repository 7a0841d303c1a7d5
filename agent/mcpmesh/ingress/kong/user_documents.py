"""The user's own documents for Kong (`kong.d/*.yml`): read with their lines, checked, and merged with ours.

Kong validates what is in them. Checked here are only the form of a document,
and conflicts: two entities, of two documents or of one and the mesh, with the
same name, key, path or plugin scope.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpmesh.catalog.parse import MAX_BYTES, parse_file
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.errors import DocumentError, Problem, ProblemKind
from mcpmesh.ingress.kong.document import FORMAT, Content
from mcpmesh.kit.regular_files import read_regular_file

SUFFIXES = (".yml", ".yaml", ".json")

# Keys of the whole document, not kinds of entities; `_comment` and `_ignore` are for people.
_DOCUMENT_KEYS = ("_format_version", "_transform", "_comment", "_ignore")
# The keys that are unique among entities of a kind, beside the id; for all other kinds it is `name`.
_UNIQUE_KEYS = {"consumers": ("username", "custom_id"), "keyauth_credentials": ("key",), "jwt_secrets": ("key",)}
# Kong accepts only one plugin of a name for each combination of these.
_SCOPES = ("service", "route", "consumer", "consumer_group", "instance_name")
# A route with one of these may share its path with another route.
_NARROWING_KEYS = ("hosts", "methods", "headers", "snis", "sources", "destinations")
# Lists under these keys hold no entities.
_OPAQUE = ("config", "headers", "tags")


@dataclass(frozen=True)
class UserDocuments:
    """The top-level entities of all documents, by kind, in the order of the files."""

    entities: tuple[tuple[str, Node], ...] = ()

    def merged_with(self, ours: Content, absent: Collection[str] = ()) -> Content:
        """Our content with these entities, except those that refer to a service that is `absent` from ours.

        Kong refuses a dangling reference; such an entity is added together with its service.
        """
        merged = {key: list(value) if isinstance(value, list) else value for key, value in ours.items()}
        for kind, node in self.entities:
            if not {_reference(node, key) for key in ("service", "route")} & set(absent):
                merged.setdefault(kind, []).append(node.plain())
        return merged

    def check_conflicts(self, ours: Content) -> None:
        """Raises DocumentError, with file and entity, for every conflict."""
        taken = {
            key: "the mesh itself renders one" for kind, item in _entities(ours) for key in _unique_keys(kind, item, {})
        }
        problems: list[Problem] = []
        for kind, node in self.entities:
            for key in _unique_keys(kind, node.plain(), {}):
                if (before := taken.get(key)) is not None:
                    problems.append(node.problem(f"{_description(key)} is taken: {before}; {_next_step(key)}"))
                else:
                    taken[key] = f"it stands at {node.path}:{node.line} as well"
        if problems:
            raise DocumentError(problems)

    @property
    def route_paths(self) -> list[str]:
        """The paths of all routes, as Kong writes them."""
        nested = (_nested(kind, node.plain(), {}) for kind, node in self.entities)
        routes = [item for entities in nested for kind, item, _ in entities if kind == "routes"]
        return [path for item in routes for path in item.get("paths") or () if isinstance(path, str)]


def document_files(folder: Path) -> list[Path]:
    """The documents in `folder`, in the order in which they are merged; none where there is no such folder."""
    try:
        found = [path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DocumentError([Problem(folder, None, "", f"cannot be read ({error.strerror})")]) from error
    return sorted(found)


def read_documents(folder: Path) -> UserDocuments:
    """All documents in `folder`; raises DocumentError with every mistake in their form."""
    return read_all(document_files(folder))


def fingerprint(folder: Path | None) -> Mapping[Path, bytes | None]:
    """Equal for two reads of `folder` between which no document was added, removed or changed."""
    found: dict[Path, bytes | None] = {}
    try:
        paths = document_files(folder) if folder else []
    except DocumentError:
        return {} if folder is None else {folder: None}
    for path in paths:
        try:
            found[path] = hashlib.sha256(read_regular_file(path, MAX_BYTES)[0]).digest()
        except OSError:
            found[path] = None
    return found


def read_all(paths: Collection[Path]) -> UserDocuments:
    """All of `paths`; raises DocumentError with every mistake in their form."""
    entities: list[tuple[str, Node]] = []
    problems: list[Problem] = []
    for path in paths:
        root, wrong = parse_file(path)
        # A file of nothing but comments is no mistake: it is a document that is still to be written.
        problems += [problem for problem in wrong if problem.kind is not ProblemKind.EMPTY]
        if root is not None:
            problems += _form_problems(root)
            entities += [
                (kind, item) for kind, node in root.mapping.items() if kind not in _DOCUMENT_KEYS for item in node.items
            ]
    if problems:
        raise DocumentError(problems)
    return UserDocuments(tuple(entities))


def _form_problems(root: Node) -> Iterator[Problem]:
    if not isinstance(root.value, dict):
        yield root.problem('has to be a declarative document of Kong\'s, with `_format_version: "3.0"` and lists')
        return
    version = root.get("_format_version")
    if version.text != FORMAT:
        yield version.problem(f'`_format_version` has to be "{FORMAT}"')
    if root.get("_transform").value is False:
        yield root.get("_transform").problem("credentials have to be written in the clear here; leave it out")
    for kind, node in root.mapping.items():
        if kind in _DOCUMENT_KEYS:
            continue
        if not isinstance(node.value, list):
            yield node.problem("has to be a list of entities")
        else:
            yield from (item.problem("has to be a mapping") for item in node.items if not isinstance(item.value, dict))


# What no second entity may have: the kind, the key, its value, and for a plugin its scope.
UniqueKey = tuple[str, ...]


def _entities(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind, items in content.items():
        if isinstance(items, list):
            yield from ((kind, item) for item in items)


def _unique_keys(kind: str, item: Mapping[str, Any], parents: Mapping[str, str]) -> Iterator[UniqueKey]:
    """The unique keys of this entity and of those nested in it."""
    for inner, entity, above in _nested(kind, item, parents):
        if entity.get("id") is not None:
            yield (inner, "id", str(entity["id"]))
        if inner == "plugins":
            scope = (above.get(key) or _name(entity.get(key)) for key in _SCOPES)
            yield ("plugins", "name", str(entity.get("name")), *(value or "" for value in scope))
            continue
        for key in _UNIQUE_KEYS.get(inner, ("name",)):
            if entity.get(key) is not None:
                yield (inner, key, str(entity[key]))
        if inner == "routes" and not any(entity.get(key) for key in _NARROWING_KEYS):
            yield from (("routes", "path", _normalized(str(path))) for path in entity.get("paths") or ())


def _nested(
    kind: str, item: Mapping[str, Any], parents: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, str]]]:
    """An entity and those nested in it, each with its kind and the names of its parents by kind."""
    yield kind, item, parents
    below = {**parents, kind.removesuffix("s"): str(item.get("name") or item.get("username") or item.get("id") or "")}
    for key, value in item.items():
        if isinstance(value, list) and key not in _OPAQUE:
            for inner in value:
                if isinstance(inner, dict):
                    yield from _nested(key, inner, below)


def _normalized(path: str) -> str:
    """The same text for a path of a route, whether it is written as a regular expression or as a prefix."""
    if path.startswith("~"):
        return path.removeprefix("~").removesuffix("$").replace("[.]", ".").replace("\\.", ".")
    return path.rstrip("/") or "/"


def _name(reference: object) -> str:
    if isinstance(reference, dict):
        return str(reference.get("name") or reference.get("id") or "")
    return "" if reference is None else str(reference)


def _reference(node: Node, key: str) -> str:
    return _name(node.get(key).plain())


def _description(unique: UniqueKey) -> str:
    kind, key, value, *scope = unique
    if kind in _UNIQUE_KEYS and key == "key":  # the value is a secret
        return f"the {key} of this {kind.removesuffix('s')}"
    on = [f"{name} {parent}" for name, parent in zip(_SCOPES, scope, strict=False) if parent]
    return f'{kind.removesuffix("s")} {key} "{value}"' + (f" on {' and '.join(on)}" if on else "")


def _next_step(unique: UniqueKey) -> str:
    if unique[0] == "plugins":
        return "leave one out (MCPMESH_KONG__… turns the mesh's own off), or put this one on a service or route"
    return "rename one of them"
