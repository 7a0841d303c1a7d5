"""Our containers and those whose network namespaces they share; what follows from that is pure."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mcpmesh.workload.containers import container_naming
from mcpmesh.workload.containers.docker_engine import DockerEngine, Json
from mcpmesh.workload.runtime import SERVER

# Docker's description of each, by id; None where it was removed between two questions.
Inventory = Mapping[str, Json | None]


async def take_inventory(engine: DockerEngine, label: str) -> Inventory:
    """The containers with that label, and those in whose network namespaces they are."""
    inventory: dict[str, Json | None] = {}
    ids = {listed["Id"] for listed in await engine.labelled(label)}
    while ids:
        inspected = await asyncio.gather(*map(engine.inspect, ids))
        inventory |= dict(zip(ids, inspected, strict=True))
        ids = {namespace_holder(item) for item in inspected if item} - inventory.keys() - {""}
    return inventory


def label(inspected: Json, name: str) -> str:
    """A label of a container; "" without it."""
    return str((inspected["Config"].get("Labels") or {}).get(name, ""))


def namespace_holder(inspected: Json) -> str:
    """The id of the container whose network namespace this one shares; "" where it has its own."""
    return label(inspected, container_naming.JOINED).partition("@")[0]


def is_over(inspected: Json, inventory: Inventory) -> bool:
    """Whether a container has ended, or is of no use any more without the container that it was started next to."""
    return (
        not inspected["State"]["Running"]
        or not _has_namespace(inspected, inventory)
        or _lacks_server(inspected, inventory)
    )


def _has_namespace(inspected: Json, inventory: Inventory) -> bool:
    joined, holder = label(inspected, container_naming.JOINED), inventory.get(namespace_holder(inspected))
    return not joined or bool(holder and holder["State"]["Running"] and container_naming.run_id(holder) == joined)


def _lacks_server(inspected: Json, inventory: Inventory) -> bool:
    """Whether a shim's server has to run in a container of its own, and does not."""
    if not label(inspected, container_naming.IMAGE):
        return False
    run_id = container_naming.run_id(inspected)
    joined = [item for item in inventory.values() if item and label(item, container_naming.JOINED) == run_id]
    return not any(item["State"]["Running"] and label(item, container_naming.ROLE) == SERVER for item in joined)
