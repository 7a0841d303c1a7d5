"""The revisions of MCP that the shim speaks, by era."""

from __future__ import annotations

from typing import Final

MODERN: Final = "2026-07-28"
LEGACY: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
LATEST_LEGACY: Final = LEGACY[-1]
SUPPORTED: Final = (MODERN, *reversed(LEGACY))
