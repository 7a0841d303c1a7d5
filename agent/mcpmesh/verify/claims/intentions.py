"""What Consul's intentions say of a pair; pure.

The most telling intention decides (Consul's documentation, "Precedence and
match order"): an exact destination before `*`, then an exact source before `*`.
"""

from __future__ import annotations

from collections.abc import Iterable

from mcpmesh.model.observed_state import Intention

ALLOW = "allow"
DENY = "deny"
ANY = "*"


def ruling(intentions: Iterable[Intention], source: str, destination: str) -> Intention | None:
    """The intention that decides for this pair; None where the default does."""
    matching = [
        intention
        for intention in intentions
        if intention.source in (source, ANY) and intention.destination in (destination, ANY)
    ]
    return max(matching, key=lambda found: (found.destination != ANY, found.source != ANY), default=None)


def exact(intentions: Iterable[Intention], source: str, destination: str) -> Intention | None:
    """The intention that was written for this very pair."""
    return next((i for i in intentions if i.source == source and i.destination == destination), None)


def denied_by_person(intentions: Iterable[Intention], source: str, destination: str) -> Intention | None:
    """The intention of a person that forbids this very pair: `*` does not take back what the catalog allows."""
    found = exact(intentions, source, destination)
    return found if found is not None and found.owner is None and found.action == DENY else None


def pair(intention: Intention) -> str:
    """As `consul intention` writes it."""
    return f"{intention.source} => {intention.destination}"
