"""What a mesh remembers between starts: its ports and its key. Both live in its private folder.

No two meshes whose agents live choose the same port: an agent sets its own aside for as long as it lives.
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
_ANYBODYS = ("127.0.0.1", "0.0.0.0", "::")  # noqa: S104 - what people ask for, not what we choose


def claimed_ports() -> set[int]:
    """Ports that processes of any mesh of this machine were given."""
    return {port for process in find_marked() for port in process.mark.ports.values()}


class StateStore:
    """The remembered values of the mesh at `home`."""

    def __init__(self, home: Path) -> None:
        self._home = private_folder(home)
        self._ports = _read(home)

    def key(self) -> bytes:
        """A secret of this mesh, made once: digests of specs are keyed with it."""
        path = self._home / "key"
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return path.read_bytes()

    def ports(
        self, names: tuple[str, ...], fresh: PortAllocator, taken: set[int], *, holding: bool = False
    ) -> dict[str, int]:
        """The remembered port for each name; new ones where they are taken by somebody else.

        With `holding`, what we remember is held by a process of ours and is kept.
        """
        remembered = {name: self._ports[name] for name in names if name in self._ports}
        if len(remembered) == len(names) and _ours(remembered.values(), holding):
            return remembered
        chosen: dict[str, int] = {}
        for name in names:
            chosen[name] = self._fresh(fresh, taken)
        self._remember(chosen)
        return chosen

    def ports_for(
        self, names: Collection[str], fresh: PortAllocator, taken: set[int], *, holding: bool
    ) -> dict[str, int]:
        """The remembered port for each name, and a new one for each that has none or whose own is somebody else's.

        With `holding`, what we remember is held by a process of ours and is kept.
        """
        remembered = {name: self._ports[name] for name in names if name in self._ports}
        kept = {name: port for name, port in remembered.items() if _ours([port], holding)}
        chosen: dict[str, int] = {}
        for name in sorted(set(names) - kept.keys()):
            chosen[name] = self._fresh(fresh, taken | set(self._ports.values()))
        if chosen:
            self._remember(chosen)
        return {**kept, **chosen}

    def ingress_port(
        self, settings: IngressSettings, taken: set[int], held: int | None, say: Callable[[str], None]
    ) -> int:
        """Where the ingress listens: asked for, held by ours already, remembered, 8000, or the next free one.

        Raises SettingsError when the port that was asked for is taken.
        """
        if settings.port is not None:
            if not _ours([settings.port], settings.port == held, settings.host):
                raise SettingsError(
                    f"cannot open the ingress at {settings.host}:{settings.port}: the port is taken; end what holds it "
                    f'(ss -ltnp), or has set it aside (ss -xap shows "mcpmesh-port-{settings.port}"), '
                    "or set another MCPMESH_INGRESS__PORT"
                )
            return settings.port
        if held is not None:
            reserve(held)
            return held
        preferred = self._ports.get("ingress", INGRESS_PORT)
        if preferred not in taken and _ours([preferred], False, settings.host):
            port = preferred
        else:
            port = self._fresh(PortAllocator(INGRESS_PORT), taken | {preferred})
            say(f"port {preferred} is taken, so the ingress is at {port}")
        # A port that is taken today may be free tomorrow, and clients know the first one.
        if "ingress" not in self._ports:
            self._remember({"ingress": port})
        return port

    def _fresh(self, fresh: PortAllocator, taken: set[int]) -> int:
        port = fresh.take(taken)
        reserve(port)
        return port

    def _remember(self, ports: dict[str, int]) -> None:
        self._ports |= ports
        write_private(self._home / _FILE, json.dumps(self._ports, indent=1) + "\n")


def _ours(ports: Collection[int], holding: bool, host: str = "127.0.0.1") -> bool:
    """Whether all are ours, held by a process of ours or to be opened by one; no other agent is given them then."""
    if not holding and not all(is_free(port, host) for port in ports):
        return False
    # The names tell ports apart, not addresses; who asks for another one than everybody's has it for itself.
    named = [reserve(port) for port in ports] if host in _ANYBODYS else []
    return holding or all(named)


def _read(home: Path) -> dict[str, int]:
    try:
        return {str(name): int(port) for name, port in json.loads((home / _FILE).read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
