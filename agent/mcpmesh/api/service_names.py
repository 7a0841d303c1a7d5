"""Names of services in requests: known, or refused with the nearest ones that are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from mcpmesh.api.operations import Operations
from mcpmesh.api.problem_documents import UnknownService

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


async def known(operations: Operations, mesh: str, names: Sequence[str], *, unread_too: bool = False) -> None:
    """Raises UnknownService for the first of `names` that the mesh does not have.

    With `unread_too` any name will do as long as no catalog could be read.
    """
    if not names:
        return
    status = await operations.status()
    have = [service.name for service in status.services]
    if unread_too and status.catalog_error and not have and all(map(_NAME.fullmatch, names)):
        return
    for name in names:
        if name not in have:
            raise UnknownService(unknown(mesh, name, have, status.catalog_error))


def unknown(mesh: str, name: str, have: Sequence[str], mistakes: str | None = None) -> str:
    """The sentence that tells of an unknown service and what to ask for instead."""
    shown = name if len(name) <= 63 else name[:60] + "…"
    near = difflib.get_close_matches(shown, have, n=3)
    if near:
        hint = "did you mean " + " or ".join(f'"{other}"' for other in near) + "?"
    elif have:
        hint = "it has " + ", ".join(have)
    elif mistakes:
        return f'cannot tell whether mesh "{mesh}" has a service "{shown}": {mistakes}'
    else:
        hint = "it has no services yet; see: mcpmesh status"
    return f'cannot find service "{shown}" in mesh "{mesh}": {hint}'
