"""The catalog in force, and what makes it another: its files, and a person's own documents for Kong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from mcpmesh.catalog.loader import load
from mcpmesh.catalog.watcher import changes
from mcpmesh.daemon.mesh import Mesh
from mcpmesh.errors import CatalogError
from mcpmesh.model.report_items import Level
from mcpmesh.model.service import Catalog


class ActiveCatalog:
    """`current` is the last one without a mistake, None before there was one; `error` what is wrong with a later one.

    `first` is what came of reading it for the first time.
    """

    def __init__(self, mesh: Mesh, sources: Sequence[Path], first: Catalog | CatalogError | None) -> None:
        self.sources = list(sources)
        self.current = first if isinstance(first, Catalog) else None
        self.error = first if isinstance(first, CatalogError) else None
        self._mesh = mesh
        self._journal = mesh.journal

    def needed(self) -> Catalog:
        """The current one; raises CatalogError where there was none without a mistake yet."""
        if self.current is None:
            assert self.error is not None
            raise self.error
        return self.current

    async def watch(self) -> None:
        """Reads it again each time when a file of it was saved; never returns."""
        saved = changes(self.sources, os.environ)
        # The watch counts from here: what was saved since the first read is read now.
        with self._mesh.reporting_problems("catalog"):
            await self.read()
        await self._read_after(saved)

    async def watch_documents(self) -> None:
        """Reads it again each time when a document for Kong was saved; never returns."""
        await self._read_after(self._mesh.kong.document_changes())

    async def read(self) -> None:
        """Reads all again now; where there is a mistake, `error` and the journal tell of it."""
        try:
            catalog = await asyncio.to_thread(load, self.sources, os.environ)
            if self.current is None and self._mesh.loop is None:
                # Whatever else keeps the mesh from coming up, the catalog no longer does. One that is up must not lead
                # to services without a person's own documents.
                self._take(catalog, "")
            changed = await self._mesh.kong.read_documents(catalog)
        except CatalogError as error:
            self.error = error
            self._journal.record(Level.TROUBLE, f"{error}\nwhat runs is left as it is", "catalog")
            return
        mended, self.error = self.error is not None, None
        if catalog == self.current and not mended and not changed:
            return
        self._take(catalog, " and the documents for Kong" if changed else "")

    def _take(self, catalog: Catalog, more: str) -> None:
        for warning in set(catalog.warnings) - set(self.current.warnings if self.current else ()):
            self._journal.record(Level.TROUBLE, warning, "catalog")
        self.current, self.error = catalog, None
        for overtaken in self._mesh.scale_overrides.tidy(catalog):
            self._journal.record(Level.CHANGE, "the catalog's number of instances counts again", overtaken)
        self._journal.record(Level.CHANGE, f"read again: {len(catalog.services)} services{more}", "catalog")
        self._mesh.want(catalog)

    async def _read_after(self, saved: AsyncIterator[object]) -> None:
        async for _ in saved:
            with self._mesh.reporting_problems("catalog"):
                await self.read()
