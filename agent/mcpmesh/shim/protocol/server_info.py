"""What the server says about itself: eras, versions, capabilities, tools.

The first process that answers fills this in and later ones update it. The eras
are a property of the program, not of one process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from mcpmesh.shim.protocol.meta_keys import SERVER_INFO_KEY
from mcpmesh.shim.protocol.versions import LEGACY, MODERN, SUPPORTED

# Announced to a server that is used for many callers, since any of them may have any of these.
ALL_CAPABILITIES: Final[dict[str, Any]] = {
    "roots": {"listChanged": True},
    "sampling": {"context": {}, "tools": {}},
    "elicitation": {"form": {}, "url": {}},
}


@dataclass
class ServerInfo:
    """One server, as the shim knows it."""

    modern: bool | None = None
    """Whether it answers server/discover; None while unknown."""
    legacy: bool | None = None
    """Whether it answers initialize; None while unknown."""
    versions: set[str] = field(default_factory=set)
    identity: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    instructions: str | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)
    discover_result: dict[str, Any] = field(default_factory=dict)
    """The server's own result of server/discover; empty for a legacy server."""

    @property
    def eras(self) -> list[str]:
        """The eras that the server itself speaks; clients are served in both."""
        return [name for name, known in (("legacy", self.legacy), ("modern", self.modern)) if known]

    def update_from_discover(self, result: dict[str, Any]) -> None:
        """Take over a result of server/discover."""
        self.modern = True
        self.discover_result = result
        versions = [item for item in result.get("supportedVersions", []) if isinstance(item, str)]
        self.versions.update(versions or [MODERN])
        if any(item in LEGACY for item in versions):
            self.legacy = True
        meta = result.get("_meta")
        info = meta.get(SERVER_INFO_KEY) if isinstance(meta, dict) else None
        self._update(info if isinstance(info, dict) else result.get("serverInfo"), result)

    def update_from_initialize(self, result: dict[str, Any]) -> None:
        """Take over a result of initialize."""
        self.legacy = True
        version = result.get("protocolVersion")
        if isinstance(version, str):
            self.versions.add(version)
        self._update(result.get("serverInfo"), result)

    def update_legacy_version(self, version: object) -> None:
        """A modern server turned out to speak the older protocol too."""
        self.legacy = True
        if isinstance(version, str):
            self.versions.add(version)

    def _update(self, info: Any, result: dict[str, Any]) -> None:
        if isinstance(info, dict):
            self.identity = info
        capabilities = result.get("capabilities")
        if isinstance(capabilities, dict):
            # A capability must be an object; anything else promises nothing.
            self.capabilities = {key: item for key, item in capabilities.items() if isinstance(item, dict)}
        instructions = result.get("instructions")
        if isinstance(instructions, str):
            self.instructions = instructions

    def discover_answer(self) -> dict[str, Any]:
        """The shim's result of server/discover: the server's capabilities, and both eras."""
        result: dict[str, Any] = {
            "resultType": "complete",
            "supportedVersions": list(SUPPORTED),
            "capabilities": {key: item for key, item in self.capabilities.items() if key != "tasks"},
            "ttlMs": self.discover_result.get("ttlMs", 0),
            "cacheScope": self.discover_result.get("cacheScope", "private"),
        }
        if self.instructions is not None:
            result["instructions"] = self.instructions
        if self.identity:
            result["_meta"] = {SERVER_INFO_KEY: self.identity}
        return result

    def tool_digests(self) -> list[dict[str, str]]:
        """Each tool's name and the SHA-256 of its canonical JSON (sorted keys, no spaces, UTF-8)."""
        return [{"name": str(tool.get("name")), "digest": tool_digest(tool)} for tool in self.tools]


def tool_digest(tool: dict[str, Any]) -> str:
    """The hex SHA-256 of a tool's canonical JSON."""
    import hashlib  # here and not at the start of every shim

    canonical = msgspec.json.encode(tool, order="sorted")
    return hashlib.sha256(canonical).hexdigest()
