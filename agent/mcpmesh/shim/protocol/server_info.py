"""What is known of the server behind this shim, learnt from its own words.

Filled by the first process that answers and refreshed by later ones; the eras
that the server speaks are a property of the program, not of one process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

MODERN: Final = "2026-07-28"
LEGACY: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
LATEST_LEGACY: Final = LEGACY[-1]
SUPPORTED: Final = (MODERN, *reversed(LEGACY))

# Asked of a server that is used for many callers: whoever calls may be able to do any of these.
ALL_CAPABILITIES: Final[dict[str, Any]] = {
    "roots": {"listChanged": True},
    "sampling": {"context": {}, "tools": {}},
    "elicitation": {"form": {}, "url": {}},
}


@dataclass
class Profile:
    """The server's identity and abilities."""

    modern: bool | None = None
    """Answers server/discover; None while unknown."""
    legacy: bool | None = None
    """Answers initialize; None while unknown."""
    versions: set[str] = field(default_factory=set)
    server: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    instructions: str | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)
    discovered: dict[str, Any] = field(default_factory=dict)
    """The server's own discover result, where it has one."""

    @property
    def eras(self) -> list[str]:
        """Eras that the server itself speaks; clients get both whatever they are."""
        return [name for name, known in (("legacy", self.legacy), ("modern", self.modern)) if known]

    def learn_discovered(self, result: dict[str, Any]) -> None:
        """From a discover result."""
        self.modern = True
        self.discovered = result
        versions = [item for item in result.get("supportedVersions", []) if isinstance(item, str)]
        self.versions.update(versions or [MODERN])
        if any(item in LEGACY for item in versions):
            self.legacy = True
        meta = result.get("_meta")
        info = meta.get("io.modelcontextprotocol/serverInfo") if isinstance(meta, dict) else None
        self._identity(info if isinstance(info, dict) else result.get("serverInfo"), result)

    def learn_initialized(self, result: dict[str, Any]) -> None:
        """From an initialize result."""
        self.legacy = True
        version = result.get("protocolVersion")
        if isinstance(version, str):
            self.versions.add(version)
        self._identity(result.get("serverInfo"), result)

    def learn_legacy(self, version: object) -> None:
        """A modern server turned out to speak the older protocol too."""
        self.legacy = True
        if isinstance(version, str):
            self.versions.add(version)

    def _identity(self, info: Any, result: dict[str, Any]) -> None:
        if isinstance(info, dict):
            self.server = info
        capabilities = result.get("capabilities")
        if isinstance(capabilities, dict):
            # What is no object promises nothing.
            self.capabilities = {key: item for key, item in capabilities.items() if isinstance(item, dict)}
        instructions = result.get("instructions")
        if isinstance(instructions, str):
            self.instructions = instructions

    def tool_digests(self) -> list[dict[str, str]]:
        """Each tool's name and the SHA-256 of its canonical JSON (sorted keys, no spaces, UTF-8)."""
        return [{"name": str(tool.get("name")), "digest": digest(tool)} for tool in self.tools]


def digest(tool: dict[str, Any]) -> str:
    """The hex digest of the canonical JSON."""
    import hashlib  # here and not at the start of every shim

    canonical = msgspec.json.encode(tool, order="sorted")
    return hashlib.sha256(canonical).hexdigest()
