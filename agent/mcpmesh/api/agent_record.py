"""Where clients find the agent of a mesh: two files in the mesh's home folder.

`agent.json` says where the API listens, `token` holds the secret that it asks for. Both are of mode 0600.
A client uses neither file when other users could have read or written it.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr, TypeAdapter, ValidationError

from mcpmesh.api import agent_lock
from mcpmesh.api.loopback import is_loopback
from mcpmesh.errors import Broken, Refused
from mcpmesh.kit.private_files import private_folder, write_private


@dataclass(frozen=True)
class AgentRecord:
    """A started agent: `address` is "http://127.0.0.1:port", `started` is in Unix seconds."""

    pid: int
    address: str
    started: float
    version: str


_RECORD = TypeAdapter(AgentRecord)


def write(home: Path, record: AgentRecord) -> None:
    """Publishes where the API of this agent listens; call it once the API answers."""
    write_private(home / "agent.json", json.dumps(asdict(record)) + "\n")


def remove(home: Path) -> None:
    """Removes the record and the token, so that clients find no dead agent later."""
    (home / "agent.json").unlink(missing_ok=True)
    (home / "token").unlink(missing_ok=True)


def create_token(home: Path) -> SecretStr:
    """A new token for this run of the agent; clients with an older one are refused."""
    token = secrets.token_urlsafe(32)
    write_private(private_folder(home) / "token", token + "\n")
    return SecretStr(token)


def read(home: Path) -> AgentRecord | None:
    """The record at `home`, whether its agent still runs or not; None without a record."""
    path = home / "agent.json"
    text = _read_private(path)
    if text is None:
        return None
    try:
        record = _RECORD.validate_json(text)
    except ValidationError as error:
        if not agent_lock.is_held(home):
            return None  # the next agent writes a new one
        raise Broken(f"cannot read {path}: it is damaged; start the agent again with: mcpmesh up") from error
    if not is_loopback(urlsplit(record.address).hostname or ""):
        raise Refused(
            f"cannot use {path}: its address {record.address} is not on this machine, so the token is not sent there"
        )
    return record


def read_token(home: Path) -> SecretStr | None:
    """The token of the agent at `home`; None where there is none."""
    text = _read_private(home / "token")
    return None if text is None else SecretStr(text.strip())


def _read_private(path: Path) -> str | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}; run this as the user who started the mesh") from error
    with os.fdopen(handle, encoding="utf-8", errors="replace") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Refused(
                f"cannot trust {path}: other users may read it (mode {stat.S_IMODE(found.st_mode):04o}); "
                f"if you are sure that nobody did: chmod 600 {path}; else start the agent again"
            )
        if os.geteuid() not in (found.st_uid, 0):
            raise Refused(f"cannot trust {path}: it belongs to another user; run this as the user who started the mesh")
        return file.read()
