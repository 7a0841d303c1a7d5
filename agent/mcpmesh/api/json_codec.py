"""The model as JSON and back: one line of UTF-8 for each value.

Text of MCP servers may hold anything, so a lone surrogate becomes "?" instead of an error. Everything that is
written here can be read back.
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
    """`value` with its dataclasses as dicts and its tuples as lists."""
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


def decode(adapter: TypeAdapter[T], data: Any, subject: str) -> T:
    """`data` as the adapter's type; raises Broken when it does not fit.

    Fields that this version does not know are ignored. `subject` is for the message: "status".
    """
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        raise Broken(
            f"cannot understand the agent's {subject}: the agent has another version than this command; "
            "take the mesh down and start it again with one version"
        ) from error


class LineSplitter:
    """Splits bytes into lines and drops empty lines.

    Only "\\n" ends a line: text may hold Unicode's other line breaks.
    """

    def __init__(self) -> None:
        self._pending: list[bytes] = []

    def split(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that end in `chunk`; the remainder is kept for the next chunk."""
        first, *others = chunk.split(b"\n")
        self._pending.append(first)
        for other in others:
            if line := b"".join(self._pending).strip():
                yield line
            self._pending = [other]
