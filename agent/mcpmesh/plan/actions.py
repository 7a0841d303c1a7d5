"""What a pass can do: one frozen word for each action, and the sentence that says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcpmesh.ingress.kong.document import Document
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import Intention, Stray


@dataclass(frozen=True)
class WriteEntry:
    """A config entry that is missing or differs."""

    payload: dict[str, Any]

    def __str__(self) -> str:
        return f"write {self.payload['Kind']}/{self.payload['Name']}"


@dataclass(frozen=True)
class DeleteEntry:
    """A config entry of ours that is no longer wanted."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"delete {self.kind}/{self.name}"


@dataclass(frozen=True)
class Allow:
    """An intention that is missing."""

    source: str
    destination: str

    def __str__(self) -> str:
        return f"allow {self.source} => {self.destination}"


@dataclass(frozen=True)
class Revoke:
    """An intention of ours that is no longer wanted."""

    intention: Intention

    def __str__(self) -> str:
        return f"revoke {self.intention.source} => {self.intention.destination}"


@dataclass(frozen=True)
class StartWorkload:
    """An instance that does not run; `ports` are those it is registered with, to be kept."""

    instance: Instance
    port: int | None = None
    sidecar_port: int | None = None

    def __str__(self) -> str:
        return f"start {self.instance.id}"


@dataclass(frozen=True)
class Register:
    """An instance (or the ingress) whose registration is missing or differs from what runs."""

    instance_id: str
    payloads: tuple[dict[str, Any], ...]

    def __str__(self) -> str:
        return f"register {self.instance_id} at port {self.payloads[0]['Port']}"


@dataclass(frozen=True)
class StartSidecar:
    """A registered sidecar whose Envoy does not run."""

    instance_id: str
    sidecar_id: str
    service: str
    port: int
    gateway: bool = False

    def __str__(self) -> str:
        return f"start the {'ingress' if self.gateway else 'sidecar of ' + self.instance_id}"


@dataclass(frozen=True)
class StartKong:
    """Kong, where it does not run."""

    instance_id: str
    service: str
    port: int

    def __str__(self) -> str:
        return f"start Kong at port {self.port}"


@dataclass(frozen=True)
class StopKong:
    """A Kong of ours that is no longer wanted, or does not answer."""

    instance_id: str

    def __str__(self) -> str:
        return "stop Kong"


@dataclass(frozen=True)
class PostDocument:
    """The document that Kong should go by, which leads to these services."""

    document: Document
    services: tuple[str, ...]

    def __str__(self) -> str:
        return f"hand Kong its document, with routes to {', '.join(self.services) or 'no service'}"


@dataclass(frozen=True)
class CloseKong:
    """A Kong that somebody else runs and that still leads to services of ours, which go."""

    def __str__(self) -> str:
        return "take the routes of this mesh out of Kong"


@dataclass(frozen=True)
class Drain:
    """An instance that gets no new calls from now on; those under way go on."""

    instance_id: str

    def __str__(self) -> str:
        return f"drain {self.instance_id}"


@dataclass(frozen=True)
class Deregister:
    """An instance (or the ingress) that Consul should forget."""

    instance_id: str
    sidecar_id: str | None

    def __str__(self) -> str:
        return f"deregister {self.instance_id}"


@dataclass(frozen=True)
class StopSidecar:
    """An Envoy that is no longer wanted, or does not answer."""

    instance_id: str

    def __str__(self) -> str:
        return f"stop the sidecar of {self.instance_id}"


@dataclass(frozen=True)
class StopWorkload:
    """An instance that is no longer wanted, or does not answer."""

    instance_id: str

    def __str__(self) -> str:
        return f"stop {self.instance_id}"


@dataclass(frozen=True)
class EndStray:
    """A process of ours that nothing accounts for."""

    stray: Stray

    def __str__(self) -> str:
        return f"end stray process {self.stray.pid} of {self.stray.instance}"


Action = (
    WriteEntry
    | DeleteEntry
    | Allow
    | Revoke
    | StartWorkload
    | Register
    | StartSidecar
    | StartKong
    | StopKong
    | PostDocument
    | CloseKong
    | Drain
    | Deregister
    | StopSidecar
    | StopWorkload
    | EndStray
)
