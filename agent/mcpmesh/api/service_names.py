"""Checks the names of services in requests; an unknown name is refused with the nearest known ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from mcpmesh.api.operations import Operations
from mcpmesh.api.problem_documents import UnknownService

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


async def check(
    operations: Operations, mesh: str, names: Sequence[str], *, allow_without_catalog: bool = False
) -> None:
    """Raises UnknownService for the first of `names` that the mesh does not have.

    With `allow_without_catalog` every well-formed name passes while no catalog could be read.
    """
    if not names:
        return
    status = await operations.status()
    known = [service.name for service in status.services]
    if allow_without_catalog and status.catalog_error and not known and all(map(_NAME.fullmatch, names)):
        return
    for name in names:
        if name not in known:
            raise UnknownService(unknown_service_message(mesh, name, known, status.catalog_error))


def unknown_service_message(mesh: str, name: str, known: Sequence[str], catalog_error: str | None = None) -> str:
    """The message about an unknown service, with the known names that resemble it."""
    shown = name if len(name) <= 63 else name[:60] + "…"
    nearest = difflib.get_close_matches(shown, known, n=3)
    if nearest:
        hint = "did you mean " + " or ".join(f'"{other}"' for other in nearest) + "?"
    elif known:
        hint = "it has " + ", ".join(known)
    elif catalog_error:
        return f'cannot tell whether mesh "{mesh}" has a service "{shown}": {catalog_error}'
    else:
        hint = "it has no services yet; see: mcpmesh status"
    return f'cannot find service "{shown}" in mesh "{mesh}": {hint}'
