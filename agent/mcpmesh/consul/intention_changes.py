"""Who may call whom: what is missing, what is stale, and how one source is put into a shared entry; pure.

Consul keeps all intentions of a destination in one entry, which we share with
the person who types `consul intention`. That command can add to an entry only
as long as every source in it has an id, so ours are written with ids where
that can be done, and by check-and-set into the entry where it cannot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from mcpmesh.consul.ownership import owner_description, owner_in_description
from mcpmesh.model.instance import canonical
from mcpmesh.model.observed_state import Intention


def missing_and_stale(
    spec_allow: Iterable[str], destination: str, present: tuple[Intention, ...], mesh: str
) -> tuple[list[str], list[Intention]]:
    """Sources to allow, and intentions of ours to revoke.

    A pair that a person wrote, allow or deny, is left as it is. Ours that lost
    their ids (`consul intention delete` takes those of its neighbours away)
    count as missing while nobody else's stands beside them: `Consul.allow`
    then gives the ids back, without which a person could add nothing.
    """
    wanted = set(spec_allow)
    here = [intention for intention in present if intention.destination == destination]
    stale = [intention for intention in here if intention.owner == mesh and intention.source not in wanted]
    missing = wanted - {intention.source for intention in here}
    staying = [intention for intention in here if intention not in stale]
    if all(intention.owner == mesh and not intention.id for intention in staying):
        missing |= {intention.source for intention in staying}
    return sorted(missing), sorted(stale, key=lambda intention: intention.source)


def policy_digest(destination: str, present: Iterable[Intention]) -> str:
    """A digest (hex) of all that is said of calls to `destination`, by whomever."""
    said = sorted(
        (intention.source, intention.destination, intention.action, intention.rules)
        for intention in present
        if intention.destination in (destination, "*")
    )
    return hashlib.sha256(canonical({"said": said})).hexdigest()


def is_ours(source: Mapping[str, Any], mesh: str) -> bool:
    """Whether this source of a service-intentions entry was written by `mesh` and not changed since."""
    return source.get("Action") == "allow" and owner_in_description(source.get("Description", "")) == mesh


def all_ours_without_ids(entry: Mapping[str, Any], mesh: str) -> bool:
    """Whether nobody else has a source in `entry`, and `consul intention create` could add none."""
    sources = entry["Sources"]
    return all(is_ours(source, mesh) for source in sources) and not all(source.get("LegacyID") for source in sources)


def has(entry: Mapping[str, Any], source: str) -> bool:
    """Whether the entry says anything of this local source."""
    return any(item["Name"] == source and not item.get("Peer") for item in entry["Sources"])


def with_source(entry: Mapping[str, Any], source: str, mesh: str) -> dict[str, Any]:
    """The entry with our permission for `source` added at its end."""
    added = {"Name": source, "Type": "consul", "Action": "allow", "Description": owner_description(mesh)}
    return {**_writable(entry), "Sources": [*entry["Sources"], added]}


def without_source(entry: Mapping[str, Any], source: str, mesh: str) -> dict[str, Any]:
    """The entry without our permission for `source`; everything else as it stands."""
    kept = [item for item in entry["Sources"] if item["Name"] != source or item.get("Peer") or not is_ours(item, mesh)]
    return {**_writable(entry), "Sources": kept}


def _writable(entry: Mapping[str, Any]) -> dict[str, Any]:
    # What Consul adds to an entry and takes back only as a `cas` parameter.
    return {key: value for key, value in entry.items() if key not in ("Hash", "CreateIndex", "ModifyIndex")}
