"""Servers as the configuration files of MCP clients describe them, translated to services of a mesh.yaml.

Clients agree on the keys of a server and differ in the key that holds all servers, so each format names that key and
shares this translation. Nothing is expanded here. A key that means nothing to a mesh gets a warning and the prefix
`x-`, with which a mesh.yaml can have any key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mcpmesh.catalog.problems import Problems, did_you_mean, one_of
from mcpmesh.catalog.schema import EXTENSION_PREFIX
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.catalog.values import ESCAPE, FILE_PREFIX
from mcpmesh.model.service import service_name

# The keys of a server that a mesh.yaml has too, and that mean the same there.
SERVER_KEYS = ("command", "args", "env", "cwd", "url", "headers", "disabled")
_HTTP_TYPES = ("http", "streamable-http", "streamable_http", "streamableHttp")
# The types that a message suggests.
_SUGGESTED_TYPES = ("stdio", "http", "streamable-http")


class Format(Protocol):
    """The format of a file of MCP servers."""

    @property
    def servers_key(self) -> str:
        """The key at the root under which the servers are."""

    def matches(self, root: Node) -> bool:
        """Whether the file is of this format; only its content counts, not its name."""

    def services(self, root: Node, problems: Problems) -> Node:
        """The servers of the file as the `services` of a mesh.yaml."""


@dataclass(frozen=True)
class ClientFormat:
    """A format of a client: the servers are a mapping under `servers_key`.

    A file that also has one of the keys `unless` is of another format.
    """

    servers_key: str
    unless: tuple[str, ...] = ()

    def matches(self, root: Node) -> bool:
        """Whether the root has the key of this format."""
        return self.servers_key in root.mapping and not set(self.unless) & root.mapping.keys()

    def services(self, root: Node, problems: Problems) -> Node:
        """The servers as services, under names that a mesh can use."""
        for key, node in root.mapping.items():
            if key != self.servers_key and not key.startswith(("$", EXTENSION_PREFIX)):
                problems.warn(node, "means nothing to a mesh")
        servers = root.mapping[self.servers_key]
        if not isinstance(servers.value, dict):
            problems.add(servers, "has to be a mapping of server names to servers")
            return servers.with_value({})
        services: dict[str, Node] = {}
        for written, node in servers.value.items():
            name = _name(written, node, services, problems)
            if name is not None:
                services[name] = _service(node, problems)
        return servers.with_value(services)


def extension_key(key: str) -> str:
    """The key under which a mesh.yaml keeps a key that it does not know."""
    return key if key.startswith(EXTENSION_PREFIX) else EXTENSION_PREFIX + key


def _name(written: str, node: Node, taken: dict[str, Node], problems: Problems) -> str | None:
    name = service_name(written)
    if not name:
        problems.add(node, "has a name without letters or digits; rename it")
        return None
    if name in taken:
        problems.add(node, f'is called "{name}" in a mesh, as {taken[name].field} is; rename one of them')
        return None
    if name != written:
        problems.warn(node, f'is called "{name}" in the mesh')
    return name


def _service(node: Node, problems: Problems) -> Node:
    if not isinstance(node.value, dict):
        return node
    service: dict[str, Node] = {}
    for key, inner in node.value.items():
        if key in SERVER_KEYS:
            service[key] = _without_file_references(inner) if key in ("env", "headers") else inner
        elif key != "type":
            hint = did_you_mean(key, (*SERVER_KEYS, "type"))
            problems.warn(inner, f"means nothing to a mesh{hint}")
            service[extension_key(key)] = inner
    transport = node.value.get("type")
    if transport is not None and node.get("disabled").value is True:
        service[extension_key("type")] = transport
    elif transport is not None:
        _check_type(transport, service, problems)
    url = service.get("url")
    if url is not None and transport is None and url.text.rstrip("/").endswith("/sse"):
        problems.warn(url, "looks like an SSE address; if calls fail, ask the server for its Streamable HTTP one")
    return node.with_value(service)


def _check_type(transport: Node, service: dict[str, Node], problems: Problems) -> None:
    match transport.value:
        case "sse":
            problems.add(
                transport,
                "is a transport that MCP gave up in 2025 and that a mesh does not carry; give the Streamable HTTP "
                'address of the server as "url" with "type": "http" (often /mcp in place of /sse), or disable it',
            )
        case "stdio":
            if "command" not in service:
                message = 'says stdio, and there is no "command"; add it, or change the type to http'
                problems.add(transport, message)
        case str(word) if word in _HTTP_TYPES:
            if "url" not in service:
                problems.add(transport, 'says http, and there is no "url"; add it, or change the type to stdio')
        case _:
            hint = did_you_mean(transport.text, _SUGGESTED_TYPES)
            problems.add(transport, f"has to be {one_of(_SUGGESTED_TYPES)}{hint}")


def _without_file_references(values: Node) -> Node:
    """Environment or headers in which `file:…` is a text, since no client reads a file there."""
    if not isinstance(values.value, dict):
        return values
    return values.with_value(
        {
            name: node.with_value("", ESCAPE * 2 + node.text) if node.text.startswith(FILE_PREFIX) else node
            for name, node in values.value.items()
        }
    )
