"""The state of the stand-in for Kong: one document, which outlives its workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tests.support.kong.schema import KINDS, Errors, entities, errors_in

EMPTY_HASH = "0" * 32


class Refusal(Exception):
    """A refused document; `body` is Kong's answer."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body["message"])
        self.body = body


class State:
    """The current document; `path` keeps it, as Kong's LMDB does."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.hash = EMPTY_HASH
        self.found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        if path is not None and path.exists():
            kept = json.loads(path.read_text())
            self.hash, self.found = kept["hash"], kept["found"]

    def load_text(self, text: str, flatten: bool = False) -> None:
        """A document as JSON or YAML; its hash is that of the text."""
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise Refusal(_invalid({"error": f"failed parsing declarative configuration: {error}"})) from None
        if not isinstance(document, dict):
            raise Refusal(_invalid({"error": "failed parsing declarative configuration: expected an object"}))
        self.load(document, hashlib.md5(text.encode()).hexdigest(), flatten)

    def load(self, document: Mapping[str, Any], hash_: str, flatten: bool = False) -> None:
        """Replaces the document, or raises Refusal and keeps the old one."""
        if errors := errors_in(document):
            raise Refusal(_refused(errors, document, flatten))
        found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        known: set[tuple[str, str]] = set()
        twice: Errors = {}
        for kind, entity, key, place in entities(document):
            if key and (kind, key) in known:
                field = KINDS[kind].key or "primary key"
                message = f"uniqueness violation: '{kind}' entity with {field} set to '{key}' already declared"
                if place is None:
                    twice.setdefault(kind, {})[key] = message
                else:
                    twice.setdefault(kind, [None] * len(document[kind]))[place] = message
            elif key:
                known.add((kind, key))
            found[kind].append(entity)
        errors = twice or _dangling(found)
        if errors:
            raise Refusal(_refused(errors, document, flatten))
        self.found = found
        self.hash = hash_ if any(found.values()) else EMPTY_HASH
        if self._path is not None:
            self._path.write_text(json.dumps({"hash": self.hash, "found": found}))

    def exported(self) -> str:
        """The answer to GET /config: YAML, flat, with ids."""
        return yaml.safe_dump(
            {"_format_version": "3.0", "_transform": False, **{k: v for k, v in self.found.items() if v}}
        )

    def one(self, kind: str, key: str | None) -> dict[str, Any] | None:
        """The entity of that name or id."""
        names = ("id", "name", "username")
        return next((item for item in self.found[kind] if key and key in (item.get(name) for name in names)), None)


def _dangling(found: Mapping[str, list[dict[str, Any]]]) -> Errors:
    errors: Errors = {}
    for kind, items in found.items():
        for item in items:
            for key in KINDS[kind].refers:
                target = item.get(key)
                names = [other.get(name) for other in found[f"{key}s"] for name in ("id", "name", "username")]
                if target is not None and target not in names:
                    message = f"invalid reference '{key}: {target}' (no such entry in '{key}s')"
                    errors.setdefault(kind, {}).setdefault(item["id"], []).append(message)
    return errors


def _invalid(fields: Errors) -> dict[str, Any]:
    return {
        "code": 14,
        "name": "invalid declarative configuration",
        "message": f"declarative config is invalid: {fields}",
        "fields": fields,
    }


def _refused(errors: Errors, document: Mapping[str, Any], flatten: bool) -> dict[str, Any]:
    if not flatten:
        return _invalid(errors)
    flat: list[dict[str, Any]] = []
    rest = {}
    for kind, wrong in errors.items():
        if kind in KINDS and isinstance(wrong, list):
            for place, reason in enumerate(wrong):
                if reason:
                    _flatten(kind, document[kind][place], reason, flat)
        else:
            rest[kind] = wrong
    return {**_invalid(rest), "flattened_errors": flat}


def _flatten(kind: str, entity: Any, wrong: Any, flat: list[dict[str, Any]]) -> None:
    own: Any = {"@entity": [wrong]} if isinstance(wrong, str) else dict(wrong)
    for inner in KINDS[kind].inside:
        for place, reason in enumerate(own.pop(inner, None) or ()):
            if reason:
                _flatten(inner, entity[inner][place], reason, flat)
    if not own:
        return
    told = {"entity_type": kind.removesuffix("s"), "entity": entity, "errors": list(_listed(own, ""))}
    for key in ("name", "id", "tags"):
        if isinstance(entity, dict) and entity.get(key):
            told[f"entity_{key}"] = entity[key]
    flat.append(told)


def _listed(wrong: Any, path: str) -> Any:
    if isinstance(wrong, dict):
        for key, inner in wrong.items():
            yield from _listed(inner, path if key == "@entity" else f"{path}.{key}".lstrip("."))
    elif isinstance(wrong, list):
        for inner in wrong:
            yield from _listed(inner, path)
    elif wrong:
        yield {"type": "field", "field": path, "message": wrong} if path else {"type": "entity", "message": wrong}
