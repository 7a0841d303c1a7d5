"""What Consul's intentions say about a pair of services; pure.

The most specific intention decides (Consul's documentation, "Precedence and
match order"): an exact destination before `*`, then an exact source before `*`.
"""

from __future__ import annotations

from collections.abc import Iterable

from mcpmesh.model.observed_state import Intention

ALLOW = "allow"
DENY = "deny"
ANY = "*"


def deciding_intention(intentions: Iterable[Intention], source: str, destination: str) -> Intention | None:
    """The intention that decides for this pair; None where Consul's default does."""
    matching = [
        intention
        for intention in intentions
        if intention.source in (source, ANY) and intention.destination in (destination, ANY)
    ]
    return max(matching, key=lambda found: (found.destination != ANY, found.source != ANY), default=None)


def exact_intention(intentions: Iterable[Intention], source: str, destination: str) -> Intention | None:
    """The intention that was written for this very pair."""
    return next((i for i in intentions if i.source == source and i.destination == destination), None)


def is_denial_by_user(intention: Intention | None, source: str, destination: str) -> bool:
    """Whether a user, not a mesh, denied this very pair. A denial of `*` does not: the catalog's own word is exact."""
    return (
        intention is not None
        and (intention.source, intention.destination) == (source, destination)
        and intention.owner is None
        and intention.action == DENY
    )


def pair(intention: Intention) -> str:
    """The pair as `consul intention` writes it."""
    return f"{intention.source} => {intention.destination}"
