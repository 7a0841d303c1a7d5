"""What a mesh keeps between starts, in its private folder: its ports and its key.

Two meshes whose agents run never choose the same port: an agent reserves its own for as long as it runs.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

from mcpmesh.errors import SettingsError
from mcpmesh.kit.marked_process import find_marked
from mcpmesh.kit.ports import PortAllocator, is_free, reserve
from mcpmesh.kit.private_files import private_folder, write_private
from mcpmesh.settings import IngressSettings

INGRESS_PORT = 8000
_FILE = "ports.json"
# The addresses that two meshes may both want; another one is taken for the mesh's own.
_SHARED_HOSTS = ("127.0.0.1", "0.0.0.0", "::")  # noqa: S104 - the user's setting, not our choice


def marked_ports() -> set[int]:
    """The ports in the marks of all meshes' processes on this machine."""
    return {port for process in find_marked() for port in process.mark.ports.values()}


class StateStore:
    """The stored values of the mesh at `home`."""

    def __init__(self, home: Path) -> None:
        self._home = private_folder(home)
        self._ports = _read(home)

    def key(self) -> bytes:
        """A secret of this mesh, created once; digests of specs are keyed with it."""
        path = self._home / "key"
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return path.read_bytes()

    def ports(
        self, names: tuple[str, ...], allocator: PortAllocator, taken: set[int], *, held_by_us: bool = False
    ) -> dict[str, int]:
        """The stored port for each name; new ones for all names where another program has one of them.

        With `held_by_us` a process of ours holds the stored ports, and they are kept.
        """
        stored = {name: self._ports[name] for name in names if name in self._ports}
        if len(stored) == len(names) and _obtain(stored.values(), held_by_us):
            return stored
        chosen: dict[str, int] = {}
        for name in names:
            chosen[name] = self._allocate(allocator, taken)
        self._store(chosen)
        return chosen

    def ports_for(
        self, names: Collection[str], allocator: PortAllocator, taken: set[int], *, held_by_us: bool
    ) -> dict[str, int]:
        """The stored port for each name; a new one for each name without one, or whose port another program has.

        With `held_by_us` a process of ours holds the stored ports, and they are kept.
        """
        stored = {name: self._ports[name] for name in names if name in self._ports}
        kept = {name: port for name, port in stored.items() if _obtain([port], held_by_us)}
        chosen: dict[str, int] = {}
        for name in sorted(set(names) - kept.keys()):
            chosen[name] = self._allocate(allocator, taken | set(self._ports.values()))
        if chosen:
            self._store(chosen)
        return {**kept, **chosen}

    def ingress_port(
        self, settings: IngressSettings, taken: set[int], held: int | None, say: Callable[[str], None]
    ) -> int:
        """The ingress's port: the setting's, the one that it holds already, the stored one, 8000, or the next free one.

        Raises SettingsError when the setting's port is taken. A new port is reported with `say`.
        """
        if settings.port is not None:
            if not _obtain([settings.port], settings.port == held, settings.host):
                raise SettingsError(
                    f"cannot open the ingress at {settings.host}:{settings.port}: the port is taken; end what holds it "
                    f'(ss -ltnp), or has reserved it (ss -xap shows "mcpmesh-port-{settings.port}"), '
                    "or set another MCPMESH_INGRESS__PORT"
                )
            return settings.port
        if held is not None:
            reserve(held)
            return held
        preferred = self._ports.get("ingress", INGRESS_PORT)
        if preferred not in taken and _obtain([preferred], False, settings.host):
            port = preferred
        else:
            port = self._allocate(PortAllocator(INGRESS_PORT), taken | {preferred})
            say(f"port {preferred} is taken, so the ingress is at {port}")
        # The first port is kept: it may be free again next time, and clients know it.
        if "ingress" not in self._ports:
            self._store({"ingress": port})
        return port

    def _allocate(self, allocator: PortAllocator, taken: set[int]) -> int:
        port = allocator.take(taken)
        reserve(port)
        return port

    def _store(self, ports: dict[str, int]) -> None:
        self._ports |= ports
        write_private(self._home / _FILE, json.dumps(self._ports, indent=1) + "\n")


def _obtain(ports: Collection[int], held_by_us: bool, host: str = "127.0.0.1") -> bool:
    """Reserves the ports if all are free or held by a process of ours; returns whether that worked."""
    if not held_by_us and not all(is_free(port, host) for port in ports):
        return False
    # A reservation is for a port whatever the address, so there is none at an address that is the mesh's own.
    reserved = [reserve(port) for port in ports] if host in _SHARED_HOSTS else []
    return held_by_us or all(reserved)


def _read(home: Path) -> dict[str, int]:
    try:
        return {str(name): int(port) for name, port in json.loads((home / _FILE).read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
