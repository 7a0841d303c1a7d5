"""Kong as the ingress of a mesh: whether it is, its document, and the parts that observe and control it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from mcpmesh.daemon.intervals import Intervals
from mcpmesh.daemon.state_store import StateStore, marked_ports
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
from mcpmesh.verify.target import KongAtIngress
from mcpmesh.verify.time_limits import ANSWER_SECONDS
from mcpmesh.workload.runtime import SIDECAR

_SIDECAR_PORT = "ingress sidecar"


def _upstream_port(service: str) -> str:
    return f"ingress to {service}"


class MeshKong:
    """`documents` is the folder of the user's own documents; the ports of the sidecar come from `ports`."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        home: Path,
        state_store: StateStore,
        ports: PortAllocator,
        documents: Path | None,
        intervals: Intervals,
    ) -> None:
        self._settings = settings
        self._name = name
        self._home = home
        self._state_store = state_store
        self._ports = ports
        self._folder = settings.kong.documents or documents
        self._intervals = intervals
        self._admin = KongAdmin()
        # `verify` asks once, so it waits longer than a pass that asks again in a second.
        self._verify_admin = KongAdmin(seconds=ANSWER_SECONDS)
        self._documents = UserDocuments()
        # Used with an API gateway too: an external Kong may still have our document of an earlier time.
        self.observer = KongObserver(name, self._admin, settings.kong.admin, settings.kong.start_seconds)
        self.control = KongControl(name, home, settings.ingress, settings.kong, self._admin, ports)

    @cached_property
    def is_ingress(self) -> bool:
        """Whether Kong is the ingress: the setting says so, or says nothing and there is a Kong.

        Raises SettingsError where the setting says so and there is none.
        """
        kind, kong = self._settings.ingress.kind, self._settings.kong
        if kind == "api-gateway":
            return False
        exists = kong.admin is not None or kong_process.find_kong(kong.binary) is not None
        if kind == "kong" and not exists:
            raise SettingsError(
                "cannot have Kong as the ingress: there is none on PATH; install it, set MCPMESH_KONG__BINARY or "
                "MCPMESH_KONG__ADMIN, or MCPMESH_INGRESS__KIND=api-gateway"
            )
        return exists

    @property
    def is_external(self) -> bool:
        """Whether it is a Kong that we did not start."""
        return self.is_ingress and self._settings.kong.admin is not None

    @property
    def requires_credentials(self) -> bool:
        """Whether the settings make the ingress demand a credential, which the agent does not have."""
        return self.is_ingress and (self._settings.kong.key_auth or self._settings.kong.jwt)

    @property
    def ingress_kind(self) -> str:
        """The kind of the ingress, "kong" or "api-gateway"; the setting's where a demanded Kong is missing."""
        try:
            return "kong" if self.is_ingress else "api-gateway"
        except SettingsError:
            return self._settings.ingress.kind

    async def read_documents(self, catalog: Catalog) -> bool:
        """Reads the user's own documents if Kong is the ingress; returns whether they changed.

        After a DocumentError the earlier ones stay in force.
        """
        wish = self.desired_kong(catalog)
        if wish is None or self._folder is None:
            return False
        found = await asyncio.to_thread(user_documents.read_documents, self._folder)
        ours = replace(wish, user_documents=UserDocuments())
        found.check_conflicts(kong_content(catalog, self._name, ours, wish.ports.keys()))
        before, self._documents = self._documents, found
        return before != found

    async def document_changes(self) -> AsyncIterator[None]:
        """Yields each time when one of the user's own documents was saved, added or removed."""
        folder = self._folder if self.ingress_kind == "kong" else None
        before = await asyncio.to_thread(user_documents.fingerprint, folder)
        while True:
            await asyncio.sleep(self._intervals.kong_documents)
            now = await asyncio.to_thread(user_documents.fingerprint, folder)
            if now != before:
                before = now
                yield

    def desired_kong(self, catalog: Catalog) -> KongOptions | None:
        """What Kong has to have beside the catalog's routes; None where it is not the ingress."""
        if not self.is_ingress:
            return None
        kong = self._settings.kong
        routed = [name for name, spec in catalog.services.items() if spec.route]
        ingress_id = empty_desired_state(self._name, self._settings.ingress.service).ingress_id
        sidecar_runs = any(p.mark.role == SIDECAR and p.mark.instance == ingress_id for p in find_marked(self._home))
        names = [_SIDECAR_PORT, *map(_upstream_port, routed)]
        ports = self._state_store.ports_for(names, self._ports, marked_ports(), held_by_us=sidecar_runs)
        return KongOptions(
            sidecar_port=ports[_SIDECAR_PORT],
            ports={name: ports[_upstream_port(name)] for name in routed},
            plugins=plugins(kong),
            user_documents=self._documents,
            digest=kong_process.digest(kong_process.find_kong(kong.binary), self._settings.ingress.host, kong),
        )

    def document(self, catalog: Catalog) -> Content | None:
        """The document for Kong when all services are ready; None where Kong is not the ingress."""
        wish = self.desired_kong(catalog)
        return kong_content(catalog, self._name, wish, wish.ports.keys()) if wish else None

    def verify_target(self) -> KongAtIngress | None:
        """What `verify` needs to know of Kong; None where it is not the ingress."""
        if not self.is_ingress:
            return None
        return KongAtIngress(self._verify_admin, self._settings.kong.admin, tuple(self._documents.route_paths))

    async def watch(self, loop: ReconcileLoop) -> None:
        """Wakes the loop when Kong's document changed since the last pass, or Kong answers again; never returns."""
        while self.is_ingress:
            await asyncio.sleep(self._intervals.kong)
            if loop.observed is None or loop.observed.kong is None:
                continue
            url = self.observer.address(loop.kong_process())
            if url is not None and await self.observer.hash(url) != loop.observed.kong.hash:
                loop.notify_change()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Closes the connections; Kong keeps running."""
        await self._admin.close()
        await self._verify_admin.close()
