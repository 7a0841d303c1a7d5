"""One look at the Kong of a mesh: whether it listens, and by what document it goes."""

from __future__ import annotations

from mcpmesh.errors import PeerError
from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.kit.marked_process import Process
from mcpmesh.kit.ports import accepts_connections
from mcpmesh.model.observed import Kong, KongContent, Unknown


class KongObserver:
    """Looks at our own Kong (by its process's mark), or at the one at `external`.

    Remembers what stands in a document by its hash, so that a pass costs one question.
    """

    def __init__(self, mesh: str, admin: KongAdmin, external: str | None, start_seconds: float) -> None:
        self.external = external
        self.start_seconds = start_seconds
        self._mesh = mesh
        self._admin = admin
        self._seen: KongContent | None = None

    async def __call__(self, process: Process | None, host: str, port: int) -> Kong | None:
        """None where there is no process and no address; what Kong does not tell is Unknown."""
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
        """Of the Admin API."""
        if self.external is not None:
            return self.external
        return f"http://127.0.0.1:{process.mark.ports['admin']}" if process else None

    async def hash(self, url: str) -> str | None:
        """Of the document that the Kong at this address goes by; None where it does not tell."""
        try:
            return await self._admin.hash(url)
        except PeerError:
            return None

    async def _content(self, url: str) -> KongContent | Unknown:
        try:
            found = await self._admin.hash(url)
            if self._seen is None or self._seen.hash != found:
                services = await self._admin.services(url, self._mesh)
                if await self._admin.hash(url) != found:
                    return Unknown("Kong was handed another document just now")
                self._seen = KongContent(found, {name: held.port for name, held in services.items()})
        except PeerError as error:
            return Unknown(str(error))
        return self._seen
