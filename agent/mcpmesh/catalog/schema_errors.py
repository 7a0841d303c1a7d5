"""What pydantic refuses, as problems that say where and what would be right.

No message repeats a value: it may hold an expanded secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mcpmesh.catalog.syntax_tree import Node, nearest, one_of
from mcpmesh.errors import Problem

_SENTENCES = {
    "missing": "is missing",
    "string_type": "has to be a text",
    "int_type": "has to be a whole number",
    "float_type": "has to be a number",
    "bool_type": "has to be true or false",
    "list_type": "has to be a list, such as [one, two]",
    "dict_type": "has to be a mapping of keys to values",
    "model_type": "has to be a mapping of keys to values",
    "model_attributes_type": "has to be a mapping of keys to values",
    "string_unicode": "has to be a text in Unicode",
    "string_too_short": "must not be empty",
    "string_too_long": "is too long",
    "too_short": "must not be empty",
}


def problems(error: ValidationError, node: Node, model: type[BaseModel]) -> list[Problem]:
    """One problem for each refusal of `model` over the value of `node`."""
    return [_problem(detail, node, model) for detail in error.errors(include_url=False, include_input=False)]


def _problem(detail: ErrorDetails, node: Node, model: type[BaseModel]) -> Problem:
    location, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    place = node.at(location)
    if kind == "extra_forbidden":
        return place.problem(_unknown(str(location[-1]), known_keys(model, location[:-1]), known_keys(model, ())))
    if kind == "missing":
        return Problem(place.path, place.line, f"{place.field}.{location[-1]}", "is missing")
    if kind == "refused":
        return place.problem(detail["msg"])
    if kind == "literal_error":
        return place.problem(_choice(model, location, place))
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if kind == "greater_than_equal" else f"at most {context['le']}"
        return place.problem(f"has to be {bound}")
    return place.problem(_SENTENCES.get(kind, "has a value of the wrong kind (docs/catalog.md)"))


def _unknown(key: str, known: Sequence[str], outer: Sequence[str]) -> str:
    if guess := nearest(key, known):
        return f"is no key of a mesh.yaml{guess}"
    if key in outer:
        return f'is not a key of this place; put "{key}" one level up, beside the others of the service'
    return f"is no key of a mesh.yaml; here can be {one_of(sorted(known))}, and what begins with x-"


def _choice(model: type[BaseModel], location: Sequence[int | str], place: Node) -> str:
    choices = [choice for choice in _literals(_annotation(model, location)) if isinstance(choice, str)]
    return f"has to be {one_of(choices)}{nearest(place.text, choices)}"


def known_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys of the model that is found at `location` inside `model`."""
    inner = _model(_annotation(model, location))
    return list(inner.model_fields) if inner else []


def _annotation(model: Any, location: Sequence[int | str]) -> Any:
    annotation: Any = model
    for step in location:
        inner = _model(annotation)
        if inner and isinstance(step, str):
            field = inner.model_fields.get(step)
            annotation = field.annotation if field else None
    return annotation


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `list[Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model(inner))), None)


def _literals(annotation: Any) -> list[Any]:
    inner = get_args(annotation)
    return [leaf for part in inner for leaf in _literals(part)] if inner else [annotation]
