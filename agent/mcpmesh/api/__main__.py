"""`python -m mcpmesh.api > docs/openapi.json` publishes the description of the API."""

from __future__ import annotations

import json
import sys
from typing import cast

from pydantic import SecretStr

from mcpmesh.api.app import create
from mcpmesh.api.operations import Operations


def description() -> str:
    """OpenAPI as text, the same for every mesh."""
    nobody = cast(Operations, None)  # Describing asks nothing of it.
    return json.dumps(create(nobody, SecretStr("-"), name="-").openapi(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(description())
