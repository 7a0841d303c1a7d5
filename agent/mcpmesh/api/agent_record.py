"""How the agent of a mesh is found: what it leaves in the mesh's home folder.

`agent.lock` is held for as long as the agent lives, so neither a crash nor
a process number used again can make a dead agent look alive. `agent.json`
says where the API listens, `token` is what it asks for. All are of mode
0600, and a client believes neither file when others could have written it.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr, TypeAdapter, ValidationError

from mcpmesh.errors import Broken, Refused
from mcpmesh.kit.private_files import private_folder, write_private

# An agent that leaves has the lock for some moments more. Who only looks (`alive`) has it for an instant; that one may
# stand still meanwhile on a busy machine, and is no agent.
_LOCK_ATTEMPTS = 10
_LOCK_PAUSE_SECONDS = 0.05
_LOOK_SECONDS = 30.0


@dataclass(frozen=True)
class Presence:
    """A started agent: `address` is "http://127.0.0.1:port", `started` is Unix seconds."""

    pid: int
    address: str
    started: float
    version: str


_PRESENCE = TypeAdapter(Presence)


@contextmanager
def held(home: Path) -> Iterator[None]:
    """Makes this process the agent of the mesh at `home`; raises Refused while another one is."""
    private_folder(home)
    handle = os.open(home / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        attempts, end = 0, time.monotonic() + _LOOK_SECONDS
        while not _locked(handle):
            attempts += alive(home)
            if attempts >= _LOCK_ATTEMPTS or time.monotonic() > end:
                raise Refused(
                    f'cannot start an agent for mesh "{home.name}": one runs already; see it with: mcpmesh status'
                )
            time.sleep(_LOCK_PAUSE_SECONDS)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def alive(home: Path) -> bool:
    """Whether an agent of the mesh at `home` lives, whether it answers or not."""
    try:
        handle = os.open(home / "agent.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def announce(home: Path, presence: Presence) -> None:
    """Says where the API of this agent is; call it once the API listens."""
    write_private(home / "agent.json", json.dumps(asdict(presence)) + "\n")


def withdraw(home: Path) -> None:
    """Takes back what `announce` and `mint_token` wrote, so that a later look finds no dead agent."""
    (home / "agent.json").unlink(missing_ok=True)
    (home / "token").unlink(missing_ok=True)


def mint_token(home: Path) -> SecretStr:
    """A new token for this run of the agent; clients with an older one are refused."""
    token = secrets.token_urlsafe(32)
    write_private(private_folder(home) / "token", token + "\n")
    return SecretStr(token)


def read(home: Path) -> Presence | None:
    """The agent that was announced at `home`, alive or not; None where none was."""
    path = home / "agent.json"
    text = _read_private(path)
    if text is None:
        return None
    try:
        presence = _PRESENCE.validate_json(text)
    except ValidationError as error:
        if not alive(home):
            return None  # the next agent writes a new one
        raise Broken(f"cannot read {path}: it is damaged; start the agent again with: mcpmesh up") from error
    if not is_loopback(urlsplit(presence.address).hostname or ""):
        raise Refused(
            f"cannot use {path}: its address {presence.address} is not on this machine, so no token goes there"
        )
    return presence


def read_token(home: Path) -> SecretStr | None:
    """The token of the agent at `home`; None where there is none."""
    text = _read_private(home / "token")
    return None if text is None else SecretStr(text.strip())


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without port, can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_private(path: Path) -> str | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}; the mesh belongs to whoever started it") from error
    with os.fdopen(handle, encoding="utf-8", errors="replace") as file:
        seen = os.fstat(file.fileno())
        if seen.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Refused(
                f"cannot trust {path}: other users may read it (mode {stat.S_IMODE(seen.st_mode):04o}); "
                f"if they cannot have seen it: chmod 600 {path}; else start the agent again"
            )
        if os.geteuid() not in (seen.st_uid, 0):
            raise Refused(f"cannot trust {path}: it belongs to another user; the mesh belongs to whoever started it")
        return file.read()
