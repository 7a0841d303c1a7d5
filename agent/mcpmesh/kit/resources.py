"""Finds what the program hands to Consul and Envoy: in the wheel, or in a source checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def resource_path(relative: str) -> Path:
    """The file or folder `relative` ("consul/server.hcl") as it came with this program."""
    for root in (_PACKAGE / "_handed", _PACKAGE.parent.parent):
        if (root / relative).exists():
            return root / relative
    raise FileNotFoundError(f"{relative} is missing from this installation of mcpmesh; install it again")
