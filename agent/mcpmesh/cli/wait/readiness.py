"""When waiting for a mesh is over, decided from one status after the other; pure.

`SettledCondition` is for `up`, `ServingCondition` for commands that need services of a mesh that may be starting.
"""

from __future__ import annotations

from collections.abc import Collection

from mcpmesh.cli.status_checks import wanted_services
from mcpmesh.model.mesh_status import MeshStatus, ServiceStatus, State

# The time for the ingress and for the next reconcile pass once all services are ready or failed.
_FOLLOW_UP_SECONDS = 30.0
# On a machine that stalled for a moment a service fails, and is ready a moment later.
_FAILURE_SECONDS = 5.0


class SettledCondition:
    """Holds once all `services` are ready or have failed for good, and the ingress has a route to them.

    The ingress has `_FOLLOW_UP_SECONDS` for its part.
    """

    def __init__(self, services: Collection[str]) -> None:
        self._services = services
        self._failure_timer = _FailureTimer()
        self._settled_at: float | None = None
        self._first_failure_at: float | None = None

    def holds(self, status: MeshStatus, now: float) -> bool:
        """Whether waiting is over with this status; `now` is in seconds of any clock."""
        if _agent_cannot_start(status) or status.catalog_error is not None:
            return True
        if not _all_settled(status, self._services):
            self._failure_timer.reset()
            self._settled_at = None
            return False
        services = wanted_services(status)
        self._settled_at = now if self._settled_at is None else self._settled_at
        since = self._settled_at
        if any(service.state is not State.READY for service in services):
            # A service that alternates between starting and failed is bounded from its first failure on.
            since = self._first_failure_at = now if self._first_failure_at is None else self._first_failure_at
        if self._failure_timer.is_decided(services, now) and _is_quiet(status):
            return True
        return now - since >= _FOLLOW_UP_SECONDS


class ServingCondition:
    """Holds once `services` (all of them where none is named) serve calls or have failed for good.

    A service serves with one instance; with `every_instance` all must be up. The ingress and the last reconcile
    pass have time until `deadline`, and `_FOLLOW_UP_SECONDS` after anything that was still starting.
    """

    def __init__(self, services: Collection[str], deadline: float, *, every_instance: bool) -> None:
        self._services = services
        self._deadline = deadline
        self._every_instance = every_instance
        self._failure_timer = _FailureTimer()

    def holds(self, status: MeshStatus, now: float) -> bool:
        """Whether waiting is over with this status; `now` is in seconds of any clock."""
        services = [
            service for service in wanted_services(status) if not self._services or service.name in self._services
        ]
        if not is_managed(status) or any(map(self._is_starting, services)):
            self._deadline = now + _FOLLOW_UP_SECONDS
            self._failure_timer.reset()
            return status.paused
        if now >= self._deadline or status.paused or status.catalog_error is not None or _agent_cannot_start(status):
            return True
        if not services:
            # Under compose the services are added a moment after the agent has started.
            return bool(status.services)
        all_have_routes = bool(self._services) and all(service.address for service in services)
        return all_have_routes or (self._failure_timer.is_decided(services, now) and _is_quiet(status))

    def _is_starting(self, service: ServiceStatus) -> bool:
        return service.state is State.STARTING or (self._every_instance and _has_starting_instance(service))


class _FailureTimer:
    """Measures how long the same services have not been ready."""

    def __init__(self) -> None:
        self._not_ready: frozenset[str] | None = None
        self._since = 0.0

    def reset(self) -> None:
        """Forgets the services; the next look starts the time again."""
        self._not_ready = None

    def is_decided(self, services: Collection[ServiceStatus], now: float) -> bool:
        """Whether all are ready, or the same ones have not been for `_FAILURE_SECONDS`."""
        not_ready = frozenset(service.name for service in services if service.state is not State.READY)
        if not_ready != self._not_ready:
            self._not_ready, self._since = not_ready, now
        return not not_ready or now - self._since >= _FAILURE_SECONDS


def is_managed(status: MeshStatus) -> bool:
    """Whether the agent has begun to manage the mesh, or says why it cannot."""
    return _agent_cannot_start(status) or status.ingress is not None or status.catalog_error is not None


def _agent_cannot_start(status: MeshStatus) -> bool:
    """Whether the agent reports why it cannot start; services of an earlier agent are "unknown" then."""
    return status.ingress is None and any(service.state in (State.FAILED, State.UNKNOWN) for service in status.services)


def _all_settled(status: MeshStatus, names: Collection[str]) -> bool:
    services = {service.name: service for service in status.services}
    return all(name in services and _is_settled(services[name]) for name in names)


def _is_settled(service: ServiceStatus) -> bool:
    if service.state is State.DEGRADED:
        return not _has_starting_instance(service)
    return service.state in (State.READY, State.FAILED)


def _has_starting_instance(service: ServiceStatus) -> bool:
    return service.state is State.DEGRADED and any(instance.state is State.STARTING for instance in service.instances)


def _is_quiet(status: MeshStatus) -> bool:
    if status.ingress is not None and not status.ingress_ready:
        return False
    # A failed service is retried again and again, so a mesh with one is never in sync.
    return status.in_sync or any(service.state is State.FAILED for service in status.services)
