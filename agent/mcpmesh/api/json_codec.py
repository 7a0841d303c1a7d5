"""The model as JSON and back: one text for a value, in UTF-8, without line breaks.

What a server said may hold anything, so a lone surrogate becomes "?" rather
than an error; everything that is written here can be read back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from mcpmesh.errors import Broken

T = TypeVar("T")


def plain(value: Any) -> Any:
    """`value` in dicts, lists, strings and numbers."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def encode(value: Any) -> bytes:
    """`value` as one line of JSON, without the line break."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def decode(adapter: TypeAdapter[T], data: Any, what: str) -> T:
    """`data` as the adapter's type; raises Broken when it is something else.

    Fields that this version does not know are left out.
    """
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        raise Broken(
            f"cannot understand the agent's {what}: it is of another version than this command; "
            "take the mesh down and start it again with one version"
        ) from error


class Lines:
    """Cuts bytes into lines, leaving out empty ones.

    Only "\\n" ends a line, since text may hold Unicode's other line breaks.
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def split(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that end in `chunk`; what is left begins the next one."""
        first, *others = chunk.split(b"\n")
        self._rest.append(first)
        for other in others:
            if line := b"".join(self._rest).strip():
                yield line
            self._rest = [other]
