"""Pydantic's errors as problems that name the place and what would be right.

No message repeats a value, because a value may hold an expanded secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mcpmesh.catalog.field_types import REFUSED
from mcpmesh.catalog.problems import did_you_mean, one_of
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.errors import Problem

# The sentence for each type of error that needs nothing but its type.
_SENTENCES = {
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


def problems_of(error: ValidationError, node: Node, model: type[BaseModel]) -> list[Problem]:
    """One problem for each error that `model` found in the value of `node`."""
    return [_problem(detail, node, model) for detail in error.errors(include_url=False, include_input=False)]


def _problem(detail: ErrorDetails, node: Node, model: type[BaseModel]) -> Problem:
    location, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    place = node.at(location)
    match kind:
        case "extra_forbidden":
            message = _unknown_key(str(location[-1]), known_keys(model, location[:-1]), known_keys(model, ()))
        case "missing":
            return Problem(place.path, place.line, f"{place.field}.{location[-1]}", "is missing")
        case "literal_error" | "enum":
            message = _choice(model, location, place)
        case "greater_than_equal":
            message = f"has to be at least {context['ge']}"
        case "less_than_equal":
            message = f"has to be at most {context['le']}"
        case _ if kind == REFUSED:
            message = detail["msg"]
        case _:
            message = _SENTENCES.get(kind, "has a value of the wrong kind (docs/catalog.md)")
    return place.problem(message)


def _unknown_key(key: str, known: Sequence[str], keys_of_service: Sequence[str]) -> str:
    if hint := did_you_mean(key, known):
        return f"is no key of a mesh.yaml{hint}"
    if key in keys_of_service:
        return f'is not a key of this mapping; put "{key}" one level up, beside the other keys of the service'
    return f"is no key of a mesh.yaml; the keys here are {one_of(sorted(known))}, and those that begin with x-"


def _choice(model: type[BaseModel], location: Sequence[int | str], place: Node) -> str:
    choices = _choices(_annotation(model, location))
    return f"has to be {one_of(choices)}{did_you_mean(place.text, choices)}"


def known_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys of the model at `location` inside `model`."""
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


def _choices(annotation: Any) -> list[str]:
    """The words that an annotation such as `Literal["a", "b"] | None` or an enumeration allows."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(member.value) for member in annotation]
    inner = get_args(annotation)
    if inner:
        return [choice for part in inner for choice in _choices(part)]
    return [annotation] if isinstance(annotation, str) else []
