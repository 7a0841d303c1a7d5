"""Prints the description of the API: `python -m mcpmesh.api > docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from typing import cast

from pydantic import SecretStr

from mcpmesh.api.app import create
from mcpmesh.api.operations import Operations


def description() -> str:
    """The OpenAPI document as text, the same for every mesh."""
    no_agent = cast(Operations, None)  # Not used for a description.
    return json.dumps(create(no_agent, SecretStr("-"), name="-").openapi(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(description())
