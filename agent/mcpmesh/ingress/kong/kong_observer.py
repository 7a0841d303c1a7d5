"""The state of the mesh's Kong: whether it listens, and which document it has."""

from __future__ import annotations

from mcpmesh.errors import PeerError
from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.kit.marked_process import Process
from mcpmesh.kit.ports import accepts_connections
from mcpmesh.model.observed_state import Kong, KongContent, Unknown


class KongObserver:
    """Observes our own Kong (by its process's mark), or the `external` one at that address.

    Keeps the content of the latest document by its hash, so that a pass costs one request.
    """

    def __init__(self, mesh: str, admin: KongAdmin, external: str | None, start_seconds: float) -> None:
        self.external = external
        self.start_seconds = start_seconds
        self._mesh = mesh
        self._admin = admin
        self._latest: KongContent | None = None

    async def observe(self, process: Process | None, host: str, port: int) -> Kong | None:
        """None where there is no process and no address; what Kong does not answer is Unknown."""
        url = self.address(process)
        if url is None:
            return None
        probed = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104
        return Kong(
            pid=process.pid if process and self.external is None else None,
            port=process.mark.ports["public"] if process and self.external is None else port,
            listening=await accepts_connections(probed, port),
            content=await self._content(url),
            digest=process.mark.digest if process and self.external is None else "",
        )

    def address(self, process: Process | None) -> str | None:
        """The URL of the Admin API; None where there is no Kong."""
        if self.external is not None:
            return self.external
        return f"http://127.0.0.1:{process.mark.ports['admin']}" if process else None

    async def hash(self, url: str) -> str | None:
        """The hash of the document that the Kong at this address has; None where it does not answer."""
        try:
            return await self._admin.hash(url)
        except PeerError:
            return None

    async def _content(self, url: str) -> KongContent | Unknown:
        try:
            found = await self._admin.hash(url)
            if self._latest is None or self._latest.hash != found:
                services = await self._admin.services(url, self._mesh)
                if await self._admin.hash(url) != found:
                    return Unknown("Kong was handed another document just now")
                self._latest = KongContent(found, {name: service.port for name, service in services.items()})
        except PeerError as error:
            return Unknown(str(error))
        return self._latest
