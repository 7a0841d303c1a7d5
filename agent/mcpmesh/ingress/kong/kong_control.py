"""Actions on the Kong of a mesh: start, drain and end our own; post a document to ours or to an external one."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from mcpmesh.errors import WorkloadError
from mcpmesh.ingress.kong import kong_process
from mcpmesh.ingress.kong.document import Document, document_from_text
from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.kit.packaged_files import resource_path
from mcpmesh.kit.ports import PortAllocator, is_free
from mcpmesh.settings import IngressSettings, KongSettings


class KongControl:
    """For the mesh at `home`; Kong has the identity and the host of `ingress`, and an Admin port from `ports`."""

    def __init__(
        self,
        mesh: str,
        home: Path,
        ingress: IngressSettings,
        settings: KongSettings,
        admin: KongAdmin,
        ports: PortAllocator,
    ) -> None:
        self._host = ingress.host
        self._service = ingress.service
        self._mesh = mesh
        self._home = home
        self._settings = settings
        self._admin = admin
        self._ports = ports
        self._posted: str | None = None

    def port_is_free(self, port: int) -> bool:
        """Whether Kong could listen at that port."""
        return is_free(port, self._host)

    def start(self, instance: str, port: int, taken: Collection[int]) -> int:
        """Starts ours; raises WorkloadError without a program, SettingsError where the configured one is unusable."""
        program = kong_process.find_kong(self._settings.binary)
        if program is None:
            raise WorkloadError("cannot start Kong: there is none on PATH; install it, or set MCPMESH_KONG__BINARY")
        listeners = kong_process.KongListeners(self._host, port, self._ports.take(taken))
        ports = {"public": port, "admin": listeners.admin_port}
        digest = kong_process.digest(program, self._host, self._settings)
        mark = Mark(self._mesh, str(self._home), kong_process.ROLE, instance, self._service, digest, ports)
        return kong_process.start(program, mark, listeners, self._settings)

    def last_error_line(self, instance: str) -> str:
        """Why it ended, as far as its log tells."""
        log = kong_process.log_of(self._home, instance)
        return f"the last line of its log: {kong_process.error_line_in(log)} (see {log})"

    def drain(self, process: Process) -> None:
        """Lets it finish its calls and end."""
        kong_process.drain(process)

    async def end(self, process: Process) -> None:
        """Ends it and everything that it started."""
        await kong_process.end(process)

    async def end_leftover(self) -> None:
        """Ends what outlived the shell that kept its mark."""
        await kong_process.end_leftover(self._home)

    async def post(self, process: Process | None, document: Document) -> bool:
        """Posts a document; returns whether Kong had this very one from us before and lost it."""
        url = self._url(process)
        await self._admin.post(url, document)
        was_lost, self._posted = self._posted == document.hash, document.hash
        return was_lost

    async def close_routes(self) -> None:
        """Leaves an external Kong with the document that it has before a mesh posts one: it answers 503."""
        waiting = resource_path("kong/waiting.yml").read_text(encoding="utf-8")
        await self._admin.post(self._url(None), document_from_text(waiting))

    def _url(self, process: Process | None) -> str:
        if self._settings.admin is not None:
            return self._settings.admin
        if process is None:
            raise WorkloadError("cannot hand Kong its document: it has ended meanwhile")
        return f"http://127.0.0.1:{process.mark.ports['admin']}"
