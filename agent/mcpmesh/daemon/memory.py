"""What a mesh remembers between starts: its ports and its key. Both live in its private folder.

No two meshes whose agents live choose the same port: what is chosen is written
down before the next one chooses.
"""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from mcpmesh.api import presence
from mcpmesh.errors import SettingsError
from mcpmesh.kit.files import private_folder, write_private
from mcpmesh.kit.ports import Ports, is_free
from mcpmesh.kit.process import marked
from mcpmesh.model.names import AGENT
from mcpmesh.settings import IngressSettings

INGRESS_PORT = 8000
_FILE = "ports.json"


def claimed_ports() -> set[int]:
    """Ports that any mesh of this machine holds or has set aside."""
    return {port for process in marked() for port in process.mark.ports.values()}


class Memory:
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

    def ports(self, names: tuple[str, ...], fresh: Ports, taken: set[int], *, holding: bool = False) -> dict[str, int]:
        """The remembered port for each name; new ones where they are taken by somebody else.

        With `holding`, what we remember is held by a process of ours and is kept.
        """
        with self._others() as others:
            remembered = {name: self._ports[name] for name in names if name in self._ports}
            usable = holding or all(is_free(port) and port not in others for port in remembered.values())
            if len(remembered) == len(names) and usable:
                return remembered
            chosen: dict[str, int] = {}
            for name in names:
                chosen[name] = fresh.take(taken | others | set(chosen.values()))
            self._remember(chosen)
            return chosen

    def ports_for(self, names: Collection[str], fresh: Ports, taken: set[int], *, holding: bool) -> dict[str, int]:
        """The remembered port for each name, and a new one for each that has none or whose own is somebody else's.

        With `holding`, what we remember is held by a process of ours and is kept.
        """
        with self._others() as others:
            remembered = {name: self._ports[name] for name in names if name in self._ports}
            kept = {
                name: port for name, port in remembered.items() if holding or (is_free(port) and port not in others)
            }
            chosen: dict[str, int] = {}
            for name in sorted(set(names) - kept.keys()):
                chosen[name] = fresh.take(taken | others | set(self._ports.values()) | set(chosen.values()))
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
        with self._others() as others:
            preferred = self._ports.get("ingress", INGRESS_PORT)
            if preferred not in taken | others and is_free(preferred, settings.host):
                port = preferred
            else:
                port = Ports(INGRESS_PORT).take(taken | others | {preferred})
                say(f"port {preferred} is taken, so the ingress is at {port}")
            # A port that is taken today may be free tomorrow, and clients know the first one.
            if "ingress" not in self._ports:
                self._remember({"ingress": port})
            return port

    @contextmanager
    def _others(self) -> Iterator[set[int]]:
        """What other meshes remember whose agents live: they may not have opened it yet. Nobody chooses meanwhile."""
        folder = self._home.parent
        with (folder / "ports.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            homes = {Path(process.mark.home) for process in marked() if process.mark.role == AGENT}
            homes |= {home for home in folder.iterdir() if home.is_dir() and presence.alive(home)}
            yield {port for home in homes - {self._home} for port in _read(home).values()}

    def _remember(self, ports: dict[str, int]) -> None:
        self._ports |= ports
        write_private(self._home / _FILE, json.dumps(self._ports, indent=1) + "\n")


def _read(home: Path) -> dict[str, int]:
    try:
        return {str(name): int(port) for name, port in json.loads((home / _FILE).read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
