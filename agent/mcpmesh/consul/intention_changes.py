"""Changes of intentions: which are missing or stale, and how one source is added to or removed from an entry; pure.

Consul keeps all intentions for a destination in one config entry, which we
share with the user of `consul intention`. That command can add to an entry
only while every source in it has an id. So ours are written with ids where
that is possible, else by check-and-set into the entry.
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
    """The sources to allow, and our intentions to revoke.

    An intention that a person wrote, allow or deny, is left as it is. Ours
    without ids (`consul intention delete` removes the ids of all others in
    the entry) count as missing while the destination has no intention of
    others: `Consul.allow` then restores the ids, without which a person
    could add no intention.
    """
    wanted = set(spec_allow)
    existing = [intention for intention in present if intention.destination == destination]
    stale = [intention for intention in existing if intention.owner == mesh and intention.source not in wanted]
    missing = wanted - {intention.source for intention in existing}
    remaining = [intention for intention in existing if intention not in stale]
    if all(intention.owner == mesh and not intention.id for intention in remaining):
        missing |= {intention.source for intention in remaining}
    return sorted(missing), sorted(stale, key=lambda intention: intention.source)


def policy_digest(destination: str, present: Iterable[Intention]) -> str:
    """A digest (hex) of all intentions for calls to `destination`, ours and other people's."""
    rules = sorted(
        (intention.source, intention.destination, intention.action, intention.rules)
        for intention in present
        if intention.destination in (destination, "*")
    )
    # The key is part of the digest, which Consul's entries carry: it stays as it is.
    return hashlib.sha256(canonical({"said": rules})).hexdigest()


def is_ours(source: Mapping[str, Any], mesh: str) -> bool:
    """Whether this source of a service-intentions entry was written by `mesh` and not changed since."""
    return source.get("Action") == "allow" and owner_in_description(source.get("Description", "")) == mesh


def all_ours_without_ids(entry: Mapping[str, Any], mesh: str) -> bool:
    """Whether all sources in `entry` are ours and one lacks an id, so that `consul intention create` can't add any."""
    sources = entry["Sources"]
    return all(is_ours(source, mesh) for source in sources) and not all(source.get("LegacyID") for source in sources)


def mentions_source(entry: Mapping[str, Any], source: str) -> bool:
    """Whether the entry has an intention for this source, which is no peer's."""
    return any(item["Name"] == source and not item.get("Peer") for item in entry["Sources"])


def with_source(entry: Mapping[str, Any], source: str, mesh: str) -> dict[str, Any]:
    """The entry with our permission for `source` added at the end."""
    added = {"Name": source, "Type": "consul", "Action": "allow", "Description": owner_description(mesh)}
    return {**_writable(entry), "Sources": [*entry["Sources"], added]}


def without_source(entry: Mapping[str, Any], source: str, mesh: str) -> dict[str, Any]:
    """The entry without our permission for `source`; everything else is unchanged."""
    kept = [item for item in entry["Sources"] if item["Name"] != source or item.get("Peer") or not is_ours(item, mesh)]
    return {**_writable(entry), "Sources": kept}


def _writable(entry: Mapping[str, Any]) -> dict[str, Any]:
    # Consul adds these keys to an entry, and accepts the index only as the `cas` parameter.
    return {key: value for key, value in entry.items() if key not in ("Hash", "CreateIndex", "ModifyIndex")}
