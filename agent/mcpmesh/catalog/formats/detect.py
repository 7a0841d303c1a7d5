"""The format of a file, recognized by its content. A new format is a module here and a line in `FORMATS`."""

from __future__ import annotations

from mcpmesh.catalog.formats import mesh_yaml
from mcpmesh.catalog.formats.client_servers import Format
from mcpmesh.catalog.formats.mcp_json import MCP_JSON
from mcpmesh.catalog.formats.vscode import VSCODE
from mcpmesh.catalog.problems import Problems
from mcpmesh.catalog.syntax_tree import Node

# All formats but mesh.yaml. The first one that matches a file is used.
FORMATS: tuple[Format, ...] = (MCP_JSON, VSCODE)


def format_of(root: Node) -> Format | None:
    """The format of the file; None for a mesh.yaml, and for a file of no known format."""
    return next((each for each in FORMATS if each.matches(root)), None)


def as_mesh_yaml(root: Node, problems: Problems) -> Node:
    """A file of any format as the tree of a mesh.yaml: `services`, and perhaps `defaults`."""
    found = format_of(root)
    if found is None:
        return mesh_yaml.checked(root, problems)
    return root.with_value({"services": found.services(root, problems)})
