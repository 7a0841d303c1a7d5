"""`servers`: the `mcp.json` of VS Code."""

from __future__ import annotations

from mcpmesh.catalog.formats.client_servers import ClientFormat

# A file with keys of a mesh.yaml is a mesh.yaml in which `servers` is a mistake for `services`.
VSCODE = ClientFormat("servers", unless=("version", "services"))
