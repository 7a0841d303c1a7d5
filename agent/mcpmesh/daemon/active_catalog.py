"""The catalog in force, which follows its files and the user's own documents for Kong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from mcpmesh.catalog.loader import load
from mcpmesh.catalog.watcher import changes
from mcpmesh.daemon.mesh import Mesh
from mcpmesh.errors import CatalogError
from mcpmesh.model.agent_reports import Level
from mcpmesh.model.service import Catalog


class ActiveCatalog:
    """`current` is the last catalog without a mistake, None before there was one; `error` the mistake in a later one.

    `first` is the result of the first read.
    """

    def __init__(self, mesh: Mesh, sources: Sequence[Path], first: Catalog | CatalogError | None) -> None:
        self.sources = list(sources)
        self.current = first if isinstance(first, Catalog) else None
        self.error = first if isinstance(first, CatalogError) else None
        self._mesh = mesh
        self._journal = mesh.journal

    def require(self) -> Catalog:
        """The current catalog; raises CatalogError where there was none without a mistake yet."""
        if self.current is None:
            assert self.error is not None
            raise self.error
        return self.current

    async def watch(self) -> None:
        """Reads the catalog again each time when one of its files was saved; never returns."""
        saves = changes(self.sources, os.environ)
        # The watch starts here; a save between the first read and now is read now.
        with self._mesh.reporting_problems("catalog"):
            await self.read()
        await self._read_after(saves)

    async def watch_documents(self) -> None:
        """Reads the catalog again each time when a document for Kong was saved; never returns."""
        await self._read_after(self._mesh.kong.document_changes())

    async def read(self) -> None:
        """Reads everything again now; a mistake is kept in `error` and reported in the journal."""
        try:
            catalog = await asyncio.to_thread(load, self.sources, os.environ)
            if self.current is None and self._mesh.loop is None:
                # The mesh may come up by this catalog. A mesh that is up must not route to services before the user's
                # own documents for Kong were read.
                self._take(catalog, "")
            changed = await self._mesh.kong.read_documents(catalog)
        except CatalogError as error:
            self.error = error
            self._journal.record(Level.TROUBLE, f"{error}\nwhat runs is left as it is", "catalog")
            return
        was_fixed, self.error = self.error is not None, None
        if catalog == self.current and not was_fixed and not changed:
            return
        self._take(catalog, " and the documents for Kong" if changed else "")

    def _take(self, catalog: Catalog, and_documents: str) -> None:
        for warning in set(catalog.warnings) - set(self.current.warnings if self.current else ()):
            self._journal.record(Level.TROUBLE, warning, "catalog")
        self.current, self.error = catalog, None
        for service in self._mesh.scale_overrides.drop_superseded(catalog):
            self._journal.record(Level.CHANGE, "the catalog's number of instances counts again", service)
        self._journal.record(Level.CHANGE, f"read again: {len(catalog.services)} services{and_documents}", "catalog")
        self._mesh.set_catalog(catalog)

    async def _read_after(self, saves: AsyncIterator[object]) -> None:
        async for _ in saves:
            with self._mesh.reporting_problems("catalog"):
                await self.read()
