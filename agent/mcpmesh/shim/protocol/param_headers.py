"""`Mcp-Param-*`: tool arguments that are mirrored in headers, as a tool's schema demands with `x-mcp-header`.

Follows 2026-07-28/basic/transports/streamable-http.mdx (Custom Headers from
Tool Parameters). A schema whose annotations break the rules declares nothing:
conforming clients leave such a tool out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from mcpmesh.shim.http.request_head import Head
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.modern_request import decode_header_value, header_mismatch

KEY: Final = "x-mcp-header"
PREFIX: Final = b"mcp-param-"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DECIMAL = re.compile(r"-?[0-9]+(\.0+)?")
MAX_NODES: Final = 20_000


@dataclass(frozen=True, slots=True)
class MirroredParam:
    """One mirrored argument."""

    path: tuple[str, ...]
    header: bytes
    type: str


def declared_params(schema: Any) -> tuple[MirroredParam, ...]:
    """The arguments that a tool's schema mirrors; none when its annotations break a rule."""
    found: list[MirroredParam] = []
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
            found.append(MirroredParam(path, PREFIX + name.lower().encode(), str(kind)))
        for key, item in node.items():
            if key == "properties" and isinstance(item, dict):
                stack += [((*path, name) if path is not None else None, inner) for name, inner in item.items()]
            elif key not in ("default", "examples", "const", "enum", KEY):
                stack.append((None, item))
    if len({parameter.header for parameter in found}) != len(found):
        return ()
    return tuple(found)


class ParamHeaders:
    """The mirrored arguments of a server's tools: looked up for each call, computed once for each tool list."""

    def __init__(self) -> None:
        self._tools: list[dict[str, Any]] | None = None
        self._by_tool: dict[str, tuple[MirroredParam, ...]] = {}

    def for_tool(self, tools: list[dict[str, Any]], name: str) -> tuple[MirroredParam, ...]:
        """The mirrored arguments of a tool in this list."""
        if tools is not self._tools:
            self._tools = tools
            self._by_tool = {
                tool["name"]: parameters
                for tool in tools
                if isinstance(tool.get("name"), str) and (parameters := declared_params(tool.get("inputSchema")))
            }
        return self._by_tool.get(name, ())


def argument_value(arguments: codec.Buffer, path: tuple[str, ...]) -> Any:
    """The value of an argument, None if it is absent; raises Malformed. Other arguments are not decoded."""
    for step in path:
        if not bytes(arguments).lstrip().startswith(b"{"):
            return None
        arguments = codec.members(arguments).get(step, b"null")
    return codec.decode(arguments)


def check_param_headers(parameters: tuple[MirroredParam, ...], head: Head, params: codec.Buffer) -> None:
    """Compare each header with its argument; raises Failure (-32020), or Malformed if the argument can't be read."""
    arguments = codec.members(params).get("arguments", b"{}")
    for parameter in parameters:
        value = argument_value(arguments, parameter.path)
        raw = head.headers.get(parameter.header)
        name = parameter.header.decode()
        dotted = ".".join(parameter.path)
        if value is None:
            if raw is not None:
                raise header_mismatch(f"the header {name} is there but the argument {dotted} is not")
            continue
        if raw is None:
            raise header_mismatch(f"the header {name} is missing for the argument {dotted}")
        text = decode_header_value(raw.decode("latin-1"))
        if text is None:
            raise header_mismatch(f"the header {name} is malformed")
        if not _same_value(parameter.type, value, text):
            raise header_mismatch(f"the header {name} does not say what the argument {dotted} says")


def _same_value(kind: str, value: Any, text: str) -> bool:
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if kind == "integer" and isinstance(value, int | float) and _DECIMAL.fullmatch(text):
        return value == int(text.partition(".")[0])
    return isinstance(value, str | int | float) and text == str(value)
