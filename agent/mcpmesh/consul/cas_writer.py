"""Writes config entries and intentions by check-and-set, so that no other writer's change is lost.

Each write reads the entry, decides, and gives Consul the index of what it
read. When another write came first, it starts again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, TypeVar

import httpx

from mcpmesh.consul import decoding, intention_changes
from mcpmesh.consul.ownership import OWNER, owner_description
from mcpmesh.consul.transport import ErrorAnswer, Http, Library
from mcpmesh.errors import Broken, NotOurs

T = TypeVar("T")

# A lost race means that another write succeeded; ten in a row are not by chance.
_ATTEMPTS = 10
_INTENTIONS = "service-intentions"
# How long a rewrite may still take when the agent is ending.
_FINISH_SECONDS = 5.0


async def none_if_missing(request: Awaitable[T]) -> T | None:
    """The answer, or None for a 404."""
    try:
        return await request
    except ErrorAnswer as answer:
        if answer.code == httpx.codes.NOT_FOUND:
            return None
        raise


class CasWriter:
    """Raises NotOurs, Broken after too many lost races, and the errors of its transport."""

    def __init__(self, http: Http, library: Library) -> None:
        self._http = http
        self._library = library

    async def write(self, payload: Mapping[str, Any]) -> None:
        """Creates or replaces an entry that is the mesh's own."""
        kind, name = payload["Kind"], payload["Name"]
        async for present in self._attempts(kind, name):
            if present is not None and decoding.entry(present).owner != payload["Meta"][OWNER]:
                raise NotOurs(f"cannot write {kind}/{name}: it exists and was not written by this mesh")
            if await self._put(payload, present):
                return

    async def delete(self, kind: str, name: str, mesh: str) -> None:
        """Deletes an entry that is the mesh's own."""
        async for present in self._attempts(kind, name):
            if present is None:
                return
            if decoding.entry(present).owner != mesh:
                raise NotOurs(f"cannot delete {kind}/{name}: it was not written by this mesh")
            if await self._remove(present):
                return

    async def allow(self, source: str, destination: str, mesh: str) -> None:
        """Allows one source to call a destination; with an id where Consul permits that."""
        refusal = await self._create(source, destination, "allow", owner_description(mesh))
        if refusal is None:
            return
        # The pair exists, or its entry has sources without ids, or Consul has another problem.
        async for shared in self._attempts(_INTENTIONS, destination):
            if shared is None:
                if await self._create(source, destination, "allow", owner_description(mesh)) is None:
                    return
            elif intention_changes.all_ours_without_ids(shared, mesh):
                if await self._complete(self._rewrite_with_ids(shared, source, mesh)):
                    return
            elif intention_changes.mentions_source(shared, source):
                return
            elif all(item.get("LegacyID") for item in shared["Sources"]):
                raise refusal
            elif await self._put(intention_changes.with_source(shared, source, mesh), shared):
                return

    async def revoke(self, source: str, destination: str, mesh: str) -> None:
        """Removes our permission from a destination; its other sources are kept."""
        async for shared in self._attempts(_INTENTIONS, destination):
            ours = [item for item in (shared or {}).get("Sources", ()) if item["Name"] == source and _ours(item, mesh)]
            if shared is None or not ours:
                return
            if ours[0].get("LegacyID"):
                # A write of the entry would remove the ids of its other sources.
                await self._library.connect.intentions.delete(ours[0]["LegacyID"])
                return
            rest = intention_changes.without_source(shared, source, mesh)
            if await (self._put(rest, shared) if rest["Sources"] else self._remove(shared)):
                return

    async def deny(self, source: str, destination: str, text: str) -> None:
        """Adds a denial with the description `text`; an existing intention for that pair is left as it is."""
        refusal = await self._create(source, destination, "deny", text)
        if refusal is not None:
            shared = await self._read(_INTENTIONS, destination)
            if shared is None or not intention_changes.mentions_source(shared, source):
                raise refusal

    async def _create(self, source: str, destination: str, action: str, text: str) -> ErrorAnswer | None:
        create = self._library.connect.intentions.create
        try:
            await create(source, destination, "consul", action, description=text)
        except ErrorAnswer as answer:
            if answer.code == httpx.codes.INTERNAL_SERVER_ERROR:
                return answer
            raise
        return None

    async def _rewrite_with_ids(self, shared: Mapping[str, Any], source: str, mesh: str) -> bool:
        """Deletes an entry that is ours alone and creates it again, each source with an id; False after a lost race.

        Consul gives ids only to the sources of new entries. It sends changes
        to proxies at most every 200 ms, so they don't see the moment between.
        """
        if not await self._remove(shared):
            return False
        for name in dict.fromkeys([*(item["Name"] for item in shared["Sources"]), source]):
            await self.allow(name, shared["Name"], mesh)
        return True

    async def _complete(self, work: Awaitable[T]) -> T:
        """Awaits work that must not stop half-way: a cancel waits for it, for a bounded time."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task}, timeout=_FINISH_SECONDS)
            raise

    async def _attempts(self, kind: str, name: str) -> AsyncIterator[dict[str, Any] | None]:
        for _ in range(_ATTEMPTS):
            yield await self._read(kind, name)
        raise Broken(f"cannot write {kind}/{name}: others keep changing it; try again")

    async def _read(self, kind: str, name: str) -> dict[str, Any] | None:
        return await none_if_missing(self._library.config.get(kind, name))

    async def _put(self, payload: Mapping[str, Any], present: Mapping[str, Any] | None) -> bool:
        # As text: the library would drop the number 0, which means "only if there is none".
        index = str(present["ModifyIndex"]) if present else "0"
        return bool(await self._library.config.put(payload, cas=index))

    async def _remove(self, present: Mapping[str, Any]) -> bool:
        path = f"/v1/config/{present['Kind']}/{present['Name']}"
        return bool(await self._http.call("DELETE", path, {"cas": str(present["ModifyIndex"])}))


def _ours(source: Mapping[str, Any], mesh: str) -> bool:
    return intention_changes.is_ours(source, mesh) and not source.get("Peer")
