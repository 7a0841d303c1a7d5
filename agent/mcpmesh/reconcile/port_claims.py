"""The ports that no new listener of this mesh may take."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mcpmesh.kit.marked_process import Process, find_marked
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.model.observed_state import Registration
from mcpmesh.plan.desired_state import DesiredKong


class PortClaims:
    """Remembers the ports of the latest observation, and those of the sidecars of external services."""

    def __init__(
        self, allocator: PortAllocator, marked_processes: Callable[[], Iterable[Process]] = find_marked
    ) -> None:
        self._allocator = allocator
        self._marked_processes = marked_processes
        self._registered: set[int] = set()
        self._of_kong: set[int] = set()
        self._external: dict[str, int] = {}

    def claimed(self) -> set[int]:
        """The ports of all meshes' processes on this machine, of registrations, and those set aside."""
        held = {port for process in self._marked_processes() for port in process.mark.ports.values()}
        return held | set(self._external.values()) | self._registered | self._of_kong

    def note_registrations(self, registrations: Iterable[Registration]) -> None:
        """Claims the ports of registrations: an instance that has died is started again at its ports."""
        self._registered = {port for r in registrations for port in (r.port, r.sidecar_port) if port}

    def note_kong(self, kong: DesiredKong | None) -> None:
        """Claims the ports of Kong's sidecar and its listeners."""
        self._of_kong = {kong.sidecar_port, *kong.ports.values()} if kong else set()

    def external_sidecar_port(self, instance_id: str) -> int:
        """The port for the sidecar of an external service, chosen at the first call."""
        if instance_id not in self._external:
            self._external[instance_id] = self._allocator.take(self.claimed())
        return self._external[instance_id]

    def release(self, instance_id: str) -> None:
        """Forgets the port chosen for the sidecar of an external service."""
        self._external.pop(instance_id, None)
