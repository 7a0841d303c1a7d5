"""When a mesh has come as far as it will for now, told from one status after the other; pure."""

from __future__ import annotations

from collections.abc import Collection

from mcpmesh.cli.render.status_table import wanted
from mcpmesh.model.mesh_status import MeshStatus, ServiceStatus, State

# All services answer, but the ingress or the last pass is still behind them.
_REST_SECONDS = 30.0
# On a machine that stood still for a moment a service fails, and is ready a moment later.
_FAILED_SECONDS = 5.0


class _Patience:
    """How long the same services have been in trouble."""

    def __init__(self) -> None:
        self._troubled: frozenset[str] | None = None
        self._since = 0.0

    def begin_anew(self) -> None:
        """Something else was seen meanwhile."""
        self._troubled = None

    def over(self, lines: Collection[ServiceStatus], now: float) -> bool:
        """Whether that is long enough, or none is."""
        troubled = frozenset(line.name for line in lines if line.state is not State.READY)
        if troubled != self._troubled:
            self._troubled, self._since = troubled, now
        return not troubled or now - self._since >= _FAILED_SECONDS


class Settling:
    """For `up`: `services` are ready or failed for good, and the ingress leads to them, or has had its time to."""

    def __init__(self, services: Collection[str]) -> None:
        self._services = services
        self._patience = _Patience()
        self._decided: float | None = None
        self._failed: float | None = None

    def over(self, status: MeshStatus, now: float) -> bool:
        """Whether it has; `now` in seconds of any clock."""
        if _cannot_begin(status) or status.catalog_error is not None:
            return True
        if not _is_settled(status, self._services):
            self._patience.begin_anew()
            self._decided = None
            return False
        self._decided = now if self._decided is None else self._decided
        since = self._decided
        if any(line.state is not State.READY for line in wanted(status)):
            # One that comes and goes is not waited for in vain: it had its time from its first failure on.
            since = self._failed = now if self._failed is None else self._failed
        return (self._patience.over(wanted(status), now) and _is_at_rest(status)) or now - since >= _REST_SECONDS


class Serving:
    """For what needs `services` (all, where none is named) of a mesh that may be starting.

    What else may be behind them has until `until`, and its time after anything that started. A service serves with one
    of its instances, unless `every_instance` is asked for.
    """

    def __init__(self, services: Collection[str], until: float, *, every_instance: bool) -> None:
        self._services = services
        self._until = until
        self._every_instance = every_instance
        self._patience = _Patience()

    def over(self, status: MeshStatus, now: float) -> bool:
        """See Settling."""
        lines = [line for line in wanted(status) if not self._services or line.name in self._services]
        if not has_begun(status) or any(map(self._starts, lines)):
            self._until = now + _REST_SECONDS
            self._patience.begin_anew()
            return status.paused
        if now >= self._until or status.paused or status.catalog_error is not None or _cannot_begin(status):
            return True
        if not lines:
            # In compose the servers are wanted a moment after the agent has begun.
            return bool(status.services)
        served = bool(self._services) and all(line.address for line in lines)
        return served or (self._patience.over(lines, now) and _is_at_rest(status))

    def _starts(self, line: ServiceStatus) -> bool:
        return line.state is State.STARTING or (self._every_instance and _is_growing(line))


def has_begun(status: MeshStatus) -> bool:
    """Whether the agent looks after the mesh, or says why it can't."""
    return _cannot_begin(status) or status.ingress is not None or status.catalog_error is not None


def _cannot_begin(status: MeshStatus) -> bool:
    """Whether its agent says why it can't; what an earlier one has left is then not known to have failed."""
    return status.ingress is None and any(line.state in (State.FAILED, State.UNKNOWN) for line in status.services)


def _is_settled(status: MeshStatus, services: Collection[str]) -> bool:
    found = {service.name: service for service in status.services}
    return all(name in found and _is_decided(found[name]) for name in services)


def _is_decided(service: ServiceStatus) -> bool:
    if service.state is State.DEGRADED:
        return not _is_growing(service)
    return service.state in (State.READY, State.FAILED)


def _is_growing(service: ServiceStatus) -> bool:
    return service.state is State.DEGRADED and any(one.state is State.STARTING for one in service.instances)


def _is_at_rest(status: MeshStatus) -> bool:
    if status.ingress is not None and not status.ingress_ready:
        return False
    # A failed service is tried again and again, so a mesh with one is never in sync.
    return status.in_sync or any(service.state is State.FAILED for service in status.services)
