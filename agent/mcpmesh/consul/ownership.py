"""How our registrations, config entries and intentions in Consul are told from other people's.

Registrations and config entries carry the mesh's name and a digest of their
own content in `Meta`. Intentions carry a sentence in their description and
nothing else: with any `Meta` on one of ours, Consul 1.22 refuses a person's
`consul intention delete SOURCE DESTINATION` for that destination
("Sources[0].LegacyMeta must be omitted").
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from mcpmesh.model.instance import canonical

OWNER = "mcpmesh-owner"
DIGEST = "mcpmesh-digest"
# The digest of the intentions for a service when its entry was written. The digest above does not cover it.
POLICY = "mcpmesh-policy"

_DESCRIPTION = re.compile(r"written by mcpmesh \((?P<mesh>[^()]+)\)")


def owner_description(mesh: str) -> str:
    """The description of an intention of `mesh`."""
    return f"written by mcpmesh ({mesh})"


def owner_in_description(text: str) -> str | None:
    """The mesh that wrote this description; None where a person did."""
    match = _DESCRIPTION.fullmatch(text)
    return match["mesh"] if match else None


def digest_of(*payloads: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the payloads; a digest that they carry already does not count."""
    plain = [{**payload, "Meta": {k: v for k, v in payload["Meta"].items() if k != DIGEST}} for payload in payloads]
    return hashlib.sha256(canonical({"payloads": plain})).hexdigest()


def stamped(*payloads: Mapping[str, Any], mesh: str) -> tuple[dict[str, Any], ...]:
    """The payloads with the owner and one common digest in their Meta; the same input gives the same result."""
    owned = [{**payload, "Meta": {**payload.get("Meta", {}), OWNER: mesh}} for payload in payloads]
    digest = digest_of(*owned)
    return tuple({**payload, "Meta": {**payload["Meta"], DIGEST: digest}} for payload in owned)
