"""Kong at the ingress of a mesh: whether it stands there, and what it is handed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from mcpmesh.daemon.state_store import StateStore, claimed_ports
from mcpmesh.errors import SettingsError
from mcpmesh.ingress.kong import kong_process, user_documents
from mcpmesh.ingress.kong.document import Content
from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.ingress.kong.kong_control import KongControl
from mcpmesh.ingress.kong.kong_observer import KongObserver
from mcpmesh.ingress.kong.plugins import plugins
from mcpmesh.ingress.kong.user_documents import UserDocuments
from mcpmesh.kit.marked_process import find_marked
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.model.service import Catalog
from mcpmesh.reconcile.desired_from_catalog import KongOptions, empty_desired_state, kong_content
from mcpmesh.reconcile.reconcile_loop import ReconcileLoop
from mcpmesh.settings import Settings
from mcpmesh.verify.finding import ANSWER_SECONDS
from mcpmesh.verify.target import KongWorld
from mcpmesh.workload.runtime import SIDECAR

# How soon a document that somebody else handed to Kong, or a Kong that lost ours, is noticed.
_LOOK_SECONDS = 1.0
# How soon a saved document for Kong is in force.
_DOCUMENTS_SECONDS = 1.0
_SIDECAR_PORT = "ingress sidecar"


def _upstream(service: str) -> str:
    return f"ingress to {service}"


class MeshKong:
    """`documents` is the folder of a person's own documents, `ports` where those of the sidecar come from."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        home: Path,
        state_store: StateStore,
        ports: PortAllocator,
        documents: Path | None,
    ) -> None:
        self._settings = settings
        self._name = name
        self._home = home
        self._memory = state_store
        self._ports = ports
        self._documents = settings.kong.documents or documents
        self._admin = KongAdmin()
        # Whoever looks once has to be more patient than who looks again in a second.
        self._patient = KongAdmin(seconds=ANSWER_SECONDS)
        self._own = UserDocuments()
        # Looked at behind an API gateway too: a Kong that somebody else runs may hold our document of an earlier time.
        self.observer = KongObserver(name, self._admin, settings.kong.admin, settings.kong.start_seconds)
        self.control = KongControl(name, home, settings.ingress, settings.kong, self._admin, ports)

    @cached_property
    def wanted(self) -> bool:
        """Whether Kong is the ingress: asked for, or found where nothing was said.

        Raises SettingsError where it was asked for and there is none.
        """
        kind, kong = self._settings.ingress.kind, self._settings.kong
        if kind == "api-gateway":
            return False
        there = kong.admin is not None or kong_process.find_kong(kong.binary) is not None
        if kind == "kong" and not there:
            raise SettingsError(
                "cannot have Kong as the ingress: there is none on PATH; install it, set MCPMESH_KONG__BINARY or "
                "MCPMESH_KONG__ADMIN, or MCPMESH_INGRESS__KIND=api-gateway"
            )
        return there

    @property
    def elsewhere(self) -> bool:
        """Whether it is one that somebody else runs."""
        return self.wanted and self._settings.kong.admin is not None

    @property
    def requires_credentials(self) -> bool:
        """Whether the settings have the ingress let in only who shows a credential; the agent has none."""
        return self.wanted and (self._settings.kong.key_auth or self._settings.kong.jwt)

    @property
    def ingress_kind(self) -> str:
        """What stands at the ingress: "kong" or "api-gateway"; as asked for where there is no Kong."""
        try:
            return "kong" if self.wanted else "api-gateway"
        except SettingsError:
            return self._settings.ingress.kind

    async def read_documents(self, catalog: Catalog) -> bool:
        """Reads a person's own documents for Kong, if they are of use; whether they differ from before.

        DocumentError leaves those of before in force.
        """
        wish = self.wish(catalog)
        if wish is None or self._documents is None:
            return False
        found = await asyncio.to_thread(user_documents.read_documents, self._documents)
        found.check_conflicts(kong_content(catalog, self._name, replace(wish, own=UserDocuments()), wish.ports.keys()))
        before, self._own = self._own, found
        return before != found

    async def document_changes(self) -> AsyncIterator[None]:
        """Each time when a document of a person's own was saved, came or went."""
        folder = self._documents if self.ingress_kind == "kong" else None
        known = await asyncio.to_thread(user_documents.fingerprint, folder)
        while True:
            await asyncio.sleep(_DOCUMENTS_SECONDS)
            seen = await asyncio.to_thread(user_documents.fingerprint, folder)
            if seen != known:
                known = seen
                yield

    def wish(self, catalog: Catalog) -> KongOptions | None:
        """What Kong has beside the routes of the catalog; None where it is not the ingress."""
        if not self.wanted:
            return None
        kong = self._settings.kong
        routed = [name for name, spec in catalog.services.items() if spec.route]
        ingress_id = empty_desired_state(self._name, self._settings.ingress.service).ingress_id
        holding = any(p.mark.role == SIDECAR and p.mark.instance == ingress_id for p in find_marked(self._home))
        names = [_SIDECAR_PORT, *map(_upstream, routed)]
        ports = self._memory.ports_for(names, self._ports, claimed_ports(), holding=holding)
        return KongOptions(
            sidecar_port=ports[_SIDECAR_PORT],
            ports={name: ports[_upstream(name)] for name in routed},
            plugins=plugins(kong),
            own=self._own,
            digest=kong_process.digest(kong_process.find_kong(kong.binary), self._settings.ingress.host, kong),
        )

    def document(self, catalog: Catalog) -> Content | None:
        """What Kong is handed when all services serve; None where Kong is not the ingress."""
        wish = self.wish(catalog)
        return kong_content(catalog, self._name, wish, wish.ports.keys()) if wish else None

    def world(self) -> KongWorld | None:
        """What `verify` is told about Kong; None where it is not the ingress."""
        if not self.wanted:
            return None
        return KongWorld(self._patient, self._settings.kong.admin, tuple(self._own.route_paths))

    async def watch(self, loop: ReconcileLoop) -> None:
        """Wakes the loop when Kong goes by another document than at the last look, or answers again; never returns."""
        while self.wanted:
            await asyncio.sleep(_LOOK_SECONDS)
            if loop.observed is None or loop.observed.kong is None:
                continue
            url = self.observer.address(loop.kong_process())
            if url is not None and await self.observer.hash(url) != loop.observed.kong.hash:
                loop.notify_change()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Lets go of it; it runs on."""
        await self._admin.close()
        await self._patient.close()
