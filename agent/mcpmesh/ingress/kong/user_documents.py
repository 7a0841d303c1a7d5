"""A person's own documents for Kong: `kong.d/*.yml`, read with their lines and joined to ours.

What they hold is Kong's to judge; here is looked only whether it is a document
at all, and whether two of them, or one and the mesh, want the same thing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpmesh.catalog.parse import MAX_BYTES, read
from mcpmesh.catalog.regular import read_regular
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.errors import DocumentError, Problem, ProblemKind
from mcpmesh.ingress.kong.document import FORMAT, Content

SUFFIXES = (".yml", ".yaml", ".json")

# Said of a document as a whole; `_comment` and `_ignore` are for its reader.
_WHOLE = ("_format_version", "_transform", "_comment", "_ignore")
# What tells one entity of a kind from another, beside its id.
_NAMES = {"consumers": ("username", "custom_id"), "keyauth_credentials": ("key",), "jwt_secrets": ("key",)}
# Of two plugins of one name Kong takes only one for each of these.
_SCOPES = ("service", "route", "consumer", "consumer_group", "instance_name")
# A route with one of these is told from others of its path.
_NARROWER = ("hosts", "methods", "headers", "snis", "sources", "destinations")
# Not entities, whatever they look like.
_OPAQUE = ("config", "headers", "tags")


@dataclass(frozen=True)
class UserDocuments:
    """The top-level entities of all documents, by kind, in the order of the files."""

    entities: tuple[tuple[str, Node], ...] = ()

    def joined(self, ours: Content, absent: Collection[str] = ()) -> Content:
        """Ours and these in one document, without what refers to a service of the catalog that is `absent` from ours.

        Kong refuses a reference to nothing; it goes in together with that service.
        """
        whole = {key: list(value) if isinstance(value, list) else value for key, value in ours.items()}
        for kind, node in self.entities:
            if not {_referred(node, key) for key in ("service", "route")} & set(absent):
                whole.setdefault(kind, []).append(node.plain())
        return whole

    def check(self, ours: Content) -> None:
        """Raises DocumentError naming file and entity for everything that stands twice."""
        taken = {claim: "the mesh itself renders one" for kind, item in _top(ours) for claim in _claims(kind, item, {})}
        problems: list[Problem] = []
        for kind, node in self.entities:
            for claim in _claims(kind, node.plain(), {}):
                if (before := taken.get(claim)) is not None:
                    problems.append(node.problem(f"{_worded(claim)} is taken: {before}; {_step(claim)}"))
                else:
                    taken[claim] = f"it stands at {node.path}:{node.line} as well"
        if problems:
            raise DocumentError(problems)

    @property
    def paths(self) -> list[str]:
        """What its routes take, as Kong writes paths."""
        found = (_nested(kind, node.plain(), {}) for kind, node in self.entities)
        routes = [item for entities in found for kind, item, _ in entities if kind == "routes"]
        return [path for item in routes for path in item.get("paths") or () if isinstance(path, str)]


def files(folder: Path) -> list[Path]:
    """The documents in `folder`, in the order in which they are joined; none where there is no such folder."""
    try:
        found = [path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DocumentError([Problem(folder, None, "", f"cannot be read ({error.strerror})")]) from error
    return sorted(found)


def read_folder(folder: Path) -> UserDocuments:
    """All documents in `folder`; raises DocumentError with every mistake in how they are written."""
    return read_all(files(folder))


def fingerprint(folder: Path | None) -> Mapping[Path, bytes | None]:
    """Tells whether there is another document in `folder` than before, or another text in one."""
    found: dict[Path, bytes | None] = {}
    try:
        paths = files(folder) if folder else []
    except DocumentError:
        return {} if folder is None else {folder: None}
    for path in paths:
        try:
            found[path] = hashlib.sha256(read_regular(path, MAX_BYTES)[0]).digest()
        except OSError:
            found[path] = None
    return found


def read_all(paths: Collection[Path]) -> UserDocuments:
    """All of them; raises DocumentError with every mistake in how they are written."""
    entities: list[tuple[str, Node]] = []
    problems: list[Problem] = []
    for path in paths:
        root, wrong = read(path)
        # A file of nothing but comments is no mistake: it is a document that is still to be written.
        problems += [problem for problem in wrong if problem.kind is not ProblemKind.EMPTY]
        if root is not None:
            problems += _mistakes(root)
            entities += [
                (kind, item) for kind, node in root.mapping.items() if kind not in _WHOLE for item in node.items
            ]
    if problems:
        raise DocumentError(problems)
    return UserDocuments(tuple(entities))


def _mistakes(root: Node) -> Iterator[Problem]:
    if not isinstance(root.value, dict):
        yield root.problem('has to be a declarative document of Kong\'s, with `_format_version: "3.0"` and lists')
        return
    version = root.get("_format_version")
    if version.text != FORMAT:
        yield version.problem(f'`_format_version` has to be "{FORMAT}"')
    if root.get("_transform").value is False:
        yield root.get("_transform").problem("credentials have to be written in the clear here; leave it out")
    for kind, node in root.mapping.items():
        if kind in _WHOLE:
            continue
        if not isinstance(node.value, list):
            yield node.problem("has to be a list of entities")
        else:
            yield from (item.problem("has to be a mapping") for item in node.items if not isinstance(item.value, dict))


Claim = tuple[str, ...]


def _top(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind, items in content.items():
        if isinstance(items, list):
            yield from ((kind, item) for item in items)


def _claims(kind: str, item: Mapping[str, Any], parents: Mapping[str, str]) -> Iterator[Claim]:
    """All that this entity and those inside it want for themselves."""
    for inner, entity, above in _nested(kind, item, parents):
        if entity.get("id") is not None:
            yield (inner, "id", str(entity["id"]))
        if inner == "plugins":
            scope = (above.get(key) or _name(entity.get(key)) for key in _SCOPES)
            yield ("plugins", "name", str(entity.get("name")), *(value or "" for value in scope))
            continue
        for key in _NAMES.get(inner, ("name",)):
            if entity.get(key) is not None:
                yield (inner, key, str(entity[key]))
        if inner == "routes" and not any(entity.get(key) for key in _NARROWER):
            yield from (("routes", "path", _folded(str(path))) for path in entity.get("paths") or ())


def _nested(
    kind: str, item: Mapping[str, Any], parents: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, str]]]:
    """An entity and those that stand inside it, each with its kind and the names of what it stands in."""
    yield kind, item, parents
    below = {**parents, kind.removesuffix("s"): str(item.get("name") or item.get("username") or item.get("id") or "")}
    for key, value in item.items():
        if isinstance(value, list) and key not in _OPAQUE:
            for inner in value:
                if isinstance(inner, dict):
                    yield from _nested(key, inner, below)


def _folded(path: str) -> str:
    """One word for the path of a route, however its two halves are written."""
    if path.startswith("~"):
        return path.removeprefix("~").removesuffix("$").replace("[.]", ".").replace("\\.", ".")
    return path.rstrip("/") or "/"


def _name(reference: object) -> str:
    if isinstance(reference, dict):
        return str(reference.get("name") or reference.get("id") or "")
    return "" if reference is None else str(reference)


def _referred(node: Node, key: str) -> str:
    return _name(node.get(key).plain())


def _worded(claim: Claim) -> str:
    kind, key, value, *scope = claim
    if kind in _NAMES and key == "key":  # which opens a door
        return f"the {key} of this {kind.removesuffix('s')}"
    on = [f"{name} {word}" for name, word in zip(_SCOPES, scope, strict=False) if word]
    return f'{kind.removesuffix("s")} {key} "{value}"' + (f" on {' and '.join(on)}" if on else "")


def _step(claim: Claim) -> str:
    if claim[0] == "plugins":
        return "leave one out (MCPMESH_KONG__… turns the mesh's own off), or put this one on a service or route"
    return "rename one of them"
