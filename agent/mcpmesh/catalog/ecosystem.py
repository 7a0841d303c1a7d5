"""The `mcpServers` format that MCP clients share, and VS Code's `servers`, as a mesh.yaml would say it.

Nothing is expanded here. Keys that mean nothing to a mesh are named in a
warning and kept under `x-`, where a mesh.yaml keeps what is not its own.
"""

from __future__ import annotations

import re

from mcpmesh.catalog.problems import Findings
from mcpmesh.catalog.syntax_tree import Node, nearest, one_of
from mcpmesh.catalog.values import FILE_PREFIX

KEYS = ("command", "args", "env", "cwd", "url", "headers", "disabled")
_STDIO = ("stdio",)
_HTTP = ("http", "streamable-http", "streamable_http", "streamableHttp")
_TYPES = ("stdio", "http", "streamable-http")


def root_key(root: Node) -> str | None:
    """The key that holds the servers, None where the file is a mesh.yaml."""
    if "mcpServers" in root.mapping:
        return "mcpServers"
    if "servers" in root.mapping and not {"version", "services"} & root.mapping.keys():
        return "servers"
    return None


def mesh_name(name: str) -> str:
    """`My_Server` as `my-server`; empty where nothing of it can stand in a name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:63].strip("-")


def as_services(root: Node, key: str, findings: Findings) -> Node:
    """The node of `services` that says the same as the servers under `key`."""
    for other, node in root.mapping.items():
        if other != key and not other.startswith(("$", "x-")):
            findings.warn(node, "means nothing to a mesh")
    servers = root.mapping[key]
    if not isinstance(servers.value, dict):
        findings.refuse(servers, "has to be a mapping of server names to servers")
        return servers.with_value({})
    services: dict[str, Node] = {}
    for written, node in servers.value.items():
        name = _name(written, node, services, findings)
        if name:
            services[name] = _service(node, findings)
    return servers.with_value(services)


def foreign(key: str) -> str:
    """The key under which a mesh.yaml keeps one that it doesn't know."""
    return key if key.startswith("x-") else f"x-{key}"


def _name(written: str, node: Node, taken: dict[str, Node], findings: Findings) -> str:
    name = mesh_name(written)
    if not name:
        findings.refuse(node, "has a name without letters or digits; rename it")
    elif name in taken:
        findings.refuse(node, f'is called "{name}" in a mesh, as {taken[name].field} is; rename one of them')
        return ""
    elif name != written:
        findings.warn(node, f'is called "{name}" in the mesh')
    return name


def _service(node: Node, findings: Findings) -> Node:
    if not isinstance(node.value, dict):
        return node
    kept: dict[str, Node] = {}
    for key, inner in node.value.items():
        if key in KEYS:
            kept[key] = _literal(inner) if key in ("env", "headers") else inner
        elif key != "type":
            hint = nearest(key, (*KEYS, "type"))
            findings.warn(inner, f"means nothing to a mesh{hint}")
            kept[foreign(key)] = inner
    transport = node.value.get("type")
    if transport is not None and node.get("disabled").value is True:
        kept[foreign("type")] = transport
    elif transport is not None:
        _check_type(transport, kept, findings)
    url = kept.get("url")
    if url is not None and transport is None and url.text.rstrip("/").endswith("/sse"):
        findings.warn(url, "looks like an SSE address; if calls fail, ask the server for its Streamable HTTP one")
    return node.with_value(kept)


def _check_type(transport: Node, kept: dict[str, Node], findings: Findings) -> None:
    word = transport.value
    if word == "sse":
        findings.refuse(
            transport,
            "is a transport that MCP gave up in 2025 and a mesh does not carry; give the Streamable HTTP address of "
            'the server as "url" with "type": "http" (often /mcp in place of /sse), or disable it',
        )
    elif word in _STDIO:
        if "command" not in kept:
            findings.refuse(transport, 'says stdio, and there is no "command"; add it, or change the type to http')
    elif word in _HTTP:
        if "url" not in kept:
            findings.refuse(transport, 'says http, and there is no "url"; add it, or change the type to stdio')
    else:
        findings.refuse(transport, f"has to be {one_of(_TYPES)}{nearest(transport.text, _TYPES)}")


def _literal(values: Node) -> Node:
    """Environment or headers whose `file:…` is no reference, since no client of this format reads one."""
    return values.with_value(
        {
            key: node.with_value("", "$$" + node.text) if node.text.startswith(FILE_PREFIX) else node
            for key, node in values.mapping.items()
        }
        if isinstance(values.value, dict)
        else values.value
    )
