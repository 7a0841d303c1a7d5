"""Which containers live, in whose network namespaces; what follows from that is pure."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mcpmesh.workload.containers import layout
from mcpmesh.workload.containers.docker_engine import DockerEngine, Json
from mcpmesh.workload.runtime import SERVER

# By id, as Docker describes each; None where one went between two questions.
Inventory = Mapping[str, Json | None]


async def look(engine: DockerEngine, label: str) -> Inventory:
    """The containers with that label, and those in whose network namespaces they are."""
    lives: dict[str, Json | None] = {}
    ids = {one["Id"] for one in await engine.labelled(label)}
    while ids:
        found = await asyncio.gather(*map(engine.inspect, ids))
        lives |= dict(zip(ids, found, strict=True))
        ids = {joined(each) for each in found if each} - lives.keys() - {""}
    return lives


def label(inspected: Json, name: str) -> str:
    """A label of a container; "" without it."""
    return str((inspected["Config"].get("Labels") or {}).get(name, ""))


def joined(inspected: Json) -> str:
    """The id of the container whose network namespace this one shares; "" where it has its own."""
    return label(inspected, layout.JOINED).partition("@")[0]


def over(inspected: Json, lives: Inventory) -> bool:
    """Whether a container has ended, or can be of no more use without what it was started beside."""
    return not inspected["State"]["Running"] or not _has_namespace(inspected, lives) or _bereft(inspected, lives)


def _has_namespace(inspected: Json, lives: Inventory) -> bool:
    life, holder = label(inspected, layout.JOINED), lives.get(joined(inspected))
    return not life or bool(holder and holder["State"]["Running"] and layout.life(holder) == life)


def _bereft(inspected: Json, lives: Inventory) -> bool:
    """Whether a shim's program is to be in a container of its own, and is not."""
    if not label(inspected, layout.IMAGE):
        return False
    beside = [each for each in lives.values() if each and label(each, layout.JOINED) == layout.life(inspected)]
    return not any(each["State"]["Running"] and label(each, layout.ROLE) == SERVER for each in beside)
