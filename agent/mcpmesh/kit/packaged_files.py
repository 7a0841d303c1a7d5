"""Finds the files that the agent hands to Consul, Envoy and Kong: in the wheel, or in a source checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def resource_path(relative: str) -> Path:
    """The path of the file or folder `relative` ("consul/server.hcl") of this installation."""
    for root in (_PACKAGE / "_handed", _PACKAGE.parent.parent):
        if (root / relative).exists():
            return root / relative
    raise FileNotFoundError(f"{relative} is missing from this installation of mcpmesh; install it again")
