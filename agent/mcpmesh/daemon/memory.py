"""What a mesh remembers between starts: its ports and its key. Both live in its private folder."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

from mcpmesh.errors import SettingsError
from mcpmesh.kit.files import private_folder, write_private
from mcpmesh.kit.ports import Ports, is_free
from mcpmesh.kit.process import marked
from mcpmesh.settings import IngressSettings

INGRESS_PORT = 8000


def claimed_ports() -> set[int]:
    """Ports that any mesh of this machine holds or has set aside."""
    return {port for process in marked() for port in process.mark.ports.values()}


class Memory:
    """The remembered values of the mesh at `home`."""

    def __init__(self, home: Path) -> None:
        self._home = private_folder(home)
        self._path = home / "ports.json"
        try:
            self._ports: dict[str, int] = {str(k): int(v) for k, v in json.loads(self._path.read_text()).items()}
        except (OSError, ValueError, AttributeError, TypeError):
            self._ports = {}

    def key(self) -> bytes:
        """A secret of this mesh, made once: digests of specs are keyed with it."""
        path = self._home / "key"
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return path.read_bytes()

    def ports(self, names: tuple[str, ...], fresh: Ports, taken: set[int], *, holding: bool = False) -> dict[str, int]:
        """The remembered port for each name; new ones where they are taken by somebody else.

        With `holding`, what we remember is held by a process of ours and is kept.
        """
        remembered = {name: self._ports[name] for name in names if name in self._ports}
        if len(remembered) == len(names) and (holding or all(map(is_free, remembered.values()))):
            return remembered
        chosen: dict[str, int] = {}
        for name in names:
            chosen[name] = fresh.take(taken | set(chosen.values()))
        self._remember(chosen)
        return chosen

    def ports_for(self, names: Collection[str], fresh: Ports, taken: set[int], *, holding: bool) -> dict[str, int]:
        """The remembered port for each name, and a new one for each that has none or whose own is somebody else's.

        With `holding`, what we remember is held by a process of ours and is kept.
        """
        kept = {
            name: self._ports[name] for name in names if name in self._ports and (holding or is_free(self._ports[name]))
        }
        chosen: dict[str, int] = {}
        for name in sorted(set(names) - kept.keys()):
            chosen[name] = fresh.take(taken | set(self._ports.values()) | set(chosen.values()))
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
            if settings.port != held and not is_free(settings.port, settings.host):
                raise SettingsError(
                    f"cannot open the ingress at {settings.host}:{settings.port}: the port is taken; "
                    "end what holds it (ss -ltnp), or set another MCPMESH_INGRESS__PORT"
                )
            return settings.port
        if held is not None:
            return held
        preferred = self._ports.get("ingress", INGRESS_PORT)
        if preferred not in taken and is_free(preferred, settings.host):
            port = preferred
        else:
            port = Ports(INGRESS_PORT).take(taken | {preferred})
            say(f"port {preferred} is taken, so the ingress is at {port}")
        # A port that is taken today may be free tomorrow, and clients know the first one.
        if "ingress" not in self._ports:
            self._remember({"ingress": port})
        return port

    def _remember(self, ports: dict[str, int]) -> None:
        self._ports |= ports
        write_private(self._path, json.dumps(self._ports, indent=1) + "\n")
