"""`Mcp-Param-*`: tool arguments mirrored in headers, where a tool's schema says so with `x-mcp-header`.

Follows 2026-07-28/basic/transports/streamable-http.mdx (Custom Headers from
Tool Parameters). A schema whose annotations break the rules declares nothing:
conforming clients leave such a tool out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from mcpmesh.shim.http.head import Head
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.modern_request import decode, mismatch

KEY: Final = "x-mcp-header"
PREFIX: Final = b"mcp-param-"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DECIMAL = re.compile(r"-?[0-9]+(\.0+)?")
MAX_NODES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Parameter:
    """One mirrored argument."""

    path: tuple[str, ...]
    header: bytes
    type: str


def declared(schema: Any) -> tuple[Parameter, ...]:
    """The mirrored arguments of a tool; none when the schema's annotations break a rule."""
    found: list[Parameter] = []
    stack: list[tuple[tuple[str, ...] | None, Any]] = [((), schema)]
    nodes = 0
    while stack:
        path, node = stack.pop()
        nodes += 1
        if nodes > MAX_NODES:
            return ()
        if isinstance(node, list):
            stack += [(None, item) for item in node]
            continue
        if not isinstance(node, dict):
            continue
        if KEY in node:
            name, kind = node[KEY], node.get("type")
            right = isinstance(name, str) and _TOKEN.fullmatch(name) and kind in ("string", "integer", "boolean")
            if not path or not right:
                return ()
            found.append(Parameter(path, PREFIX + name.lower().encode(), str(kind)))
        for key, item in node.items():
            if key == "properties" and isinstance(item, dict):
                stack += [((*path, name) if path is not None else None, inner) for name, inner in item.items()]
            elif key not in ("default", "examples", "const", "enum", KEY):
                stack.append((None, item))
    if len({parameter.header for parameter in found}) != len(found):
        return ()
    return tuple(found)


class Mirrors:
    """What the tools of a server declare; looked up per call, worked out per tool list."""

    def __init__(self) -> None:
        self._tools: list[dict[str, Any]] | None = None
        self._declared: dict[str, tuple[Parameter, ...]] = {}

    def of(self, tools: list[dict[str, Any]], name: str) -> tuple[Parameter, ...]:
        """The mirrored arguments of a tool in this list."""
        if tools is not self._tools:
            self._tools = tools
            self._declared = {
                tool["name"]: parameters
                for tool in tools
                if isinstance(tool.get("name"), str) and (parameters := declared(tool.get("inputSchema")))
            }
        return self._declared.get(name, ())


def argument(arguments: codec.Buffer, path: tuple[str, ...]) -> Any:
    """The value of an argument, None where there is none; raises Malformed. What stands beside it is not looked at."""
    for step in path:
        if not bytes(arguments).lstrip().startswith(b"{"):
            return None
        arguments = codec.members(arguments).get(step, b"null")
    return codec.value(arguments)


def check(parameters: tuple[Parameter, ...], head: Head, params: codec.Buffer) -> None:
    """Each header against its argument; raises Failure (-32020), or Malformed where that argument can't be read."""
    arguments = codec.members(params).get("arguments", b"{}")
    for parameter in parameters:
        value = argument(arguments, parameter.path)
        raw = head.headers.get(parameter.header)
        name = parameter.header.decode()
        where = ".".join(parameter.path)
        if value is None:
            if raw is not None:
                raise mismatch(f"the header {name} is there but the argument {where} is not")
            continue
        if raw is None:
            raise mismatch(f"the header {name} is missing for the argument {where}")
        told = decode(raw.decode("latin-1"))
        if told is None:
            raise mismatch(f"the header {name} is malformed")
        if not _same(parameter.type, value, told):
            raise mismatch(f"the header {name} does not say what the argument {where} says")


def _same(kind: str, value: Any, told: str) -> bool:
    if isinstance(value, bool):
        return told == ("true" if value else "false")
    if kind == "integer" and isinstance(value, int | float) and _DECIMAL.fullmatch(told):
        return value == int(told.partition(".")[0])
    return isinstance(value, str | int | float) and told == str(value)
