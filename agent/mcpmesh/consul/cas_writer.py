"""Config entries and intentions written by check-and-set, so that nobody's change is lost.

Each write reads first, decides, and hands Consul the index that it decided
on; when somebody was faster it begins anew.
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

# Each lost race means that somebody else's write went through; ten in a row is no race.
_TRIES = 10
_SHARED = "service-intentions"
# What a rewrite that was interrupted by our own end may still take.
_FINISH_SECONDS = 5.0


async def none_if_missing(request: Awaitable[T]) -> T | None:
    """The answer, or None where there is no such thing."""
    try:
        return await request
    except ErrorAnswer as answer:
        if answer.code == httpx.codes.NOT_FOUND:
            return None
        raise


class CasWriter:
    """Raises NotOurs, Broken after too many lost races, and what its transport raises."""

    def __init__(self, http: Http, library: Library) -> None:
        self._http = http
        self._library = library

    async def write(self, payload: Mapping[str, Any]) -> None:
        """Creates or replaces an entry that is the mesh's own."""
        kind, name = payload["Kind"], payload["Name"]
        async for present in self._looks(kind, name):
            if present is not None and decoding.entry(present).owner != payload["Meta"][OWNER]:
                raise NotOurs(f"cannot write {kind}/{name}: it exists and was not written by this mesh")
            if await self._put(payload, present):
                return

    async def delete(self, kind: str, name: str, mesh: str) -> None:
        """Deletes an entry that is the mesh's own."""
        async for present in self._looks(kind, name):
            if present is None:
                return
            if decoding.entry(present).owner != mesh:
                raise NotOurs(f"cannot delete {kind}/{name}: it was not written by this mesh")
            if await self._remove(present):
                return

    async def allow(self, source: str, destination: str, mesh: str) -> None:
        """Adds one source to a destination, by id where Consul lets us."""
        refusal = await self._create(source, destination, "allow", owner_description(mesh))
        if refusal is None:
            return
        # The pair exists, or its entry has sources without ids, or Consul is unwell.
        async for shared in self._looks(_SHARED, destination):
            if shared is None:
                if await self._create(source, destination, "allow", owner_description(mesh)) is None:
                    return
            elif intention_changes.all_ours_without_ids(shared, mesh):
                if await self._finished(self._with_ids(shared, source, mesh)):
                    return
            elif intention_changes.has(shared, source):
                return
            elif all(item.get("LegacyID") for item in shared["Sources"]):
                raise refusal
            elif await self._put(intention_changes.with_source(shared, source, mesh), shared):
                return

    async def revoke(self, source: str, destination: str, mesh: str) -> None:
        """Takes our permission out of a destination; whatever else is there stays."""
        async for shared in self._looks(_SHARED, destination):
            mine = [item for item in (shared or {}).get("Sources", ()) if item["Name"] == source and _ours(item, mesh)]
            if shared is None or not mine:
                return
            if mine[0].get("LegacyID"):
                # Through the entry its neighbours would lose their ids.
                await self._library.connect.intentions.delete(mine[0]["LegacyID"])
                return
            rest = intention_changes.without_source(shared, source, mesh)
            if await (self._put(rest, shared) if rest["Sources"] else self._remove(shared)):
                return

    async def deny(self, source: str, destination: str, text: str) -> None:
        """Adds a denial described by `text`; where anything is said of that pair, it is left as it is."""
        refusal = await self._create(source, destination, "deny", text)
        if refusal is not None:
            shared = await self._read(_SHARED, destination)
            if shared is None or not intention_changes.has(shared, source):
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

    async def _with_ids(self, shared: Mapping[str, Any], source: str, mesh: str) -> bool:
        """Writes an entry that is ours alone anew, each source with an id; False when somebody was faster.

        Consul gives ids only to sources of new entries. Its proxies hear of
        changes gathered over 200 ms, so they don't see the moment between.
        """
        if not await self._remove(shared):
            return False
        for name in dict.fromkeys([*(item["Name"] for item in shared["Sources"]), source]):
            await self.allow(name, shared["Name"], mesh)
        return True

    async def _finished(self, work: Awaitable[T]) -> T:
        """Work that must not stop half-way: our own end waits for it, a little."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task}, timeout=_FINISH_SECONDS)
            raise

    async def _looks(self, kind: str, name: str) -> AsyncIterator[dict[str, Any] | None]:
        for _ in range(_TRIES):
            yield await self._read(kind, name)
        raise Broken(f"cannot write {kind}/{name}: others keep changing it; try again")

    async def _read(self, kind: str, name: str) -> dict[str, Any] | None:
        return await none_if_missing(self._library.config.get(kind, name))

    async def _put(self, payload: Mapping[str, Any], present: Mapping[str, Any] | None) -> bool:
        # As text, since the library drops the 0 that means "only if there is none".
        index = str(present["ModifyIndex"]) if present else "0"
        return bool(await self._library.config.put(payload, cas=index))

    async def _remove(self, present: Mapping[str, Any]) -> bool:
        path = f"/v1/config/{present['Kind']}/{present['Name']}"
        return bool(await self._http.call("DELETE", path, {"cas": str(present["ModifyIndex"])}))


def _ours(source: Mapping[str, Any], mesh: str) -> bool:
    return intention_changes.is_ours(source, mesh) and not source.get("Peer")
