"""The actions of a plan, one frozen class each, and the sentence that each is shown as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcpmesh.ingress.kong.document import Document
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import Intention, Stray


@dataclass(frozen=True)
class WriteEntry:
    """Write a config entry that is missing or differs."""

    payload: dict[str, Any]

    def __str__(self) -> str:
        return f"write {self.payload['Kind']}/{self.payload['Name']}"


@dataclass(frozen=True)
class DeleteEntry:
    """Delete a config entry of ours that is no longer wanted."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"delete {self.kind}/{self.name}"


@dataclass(frozen=True)
class Allow:
    """Write an intention that is missing."""

    source: str
    destination: str

    def __str__(self) -> str:
        return f"allow {self.source} => {self.destination}"


@dataclass(frozen=True)
class Revoke:
    """Delete an intention of ours that is no longer wanted."""

    intention: Intention

    def __str__(self) -> str:
        return f"revoke {self.intention.source} => {self.intention.destination}"


@dataclass(frozen=True)
class StartWorkload:
    """Start an instance that does not run, if possible at the ports that it is registered with."""

    instance: Instance
    port: int | None = None
    sidecar_port: int | None = None

    def __str__(self) -> str:
        return f"start {self.instance.id}"


@dataclass(frozen=True)
class Register:
    """Register an instance (or the ingress) that is not registered, or not as it runs now."""

    instance_id: str
    payloads: tuple[dict[str, Any], ...]

    def __str__(self) -> str:
        return f"register {self.instance_id} at port {self.payloads[0]['Port']}"


@dataclass(frozen=True)
class StartSidecar:
    """Start the Envoy of a registered sidecar (or of the API gateway)."""

    instance_id: str
    sidecar_id: str
    service: str
    port: int
    gateway: bool = False

    def __str__(self) -> str:
        return f"start the {'ingress' if self.gateway else 'sidecar of ' + self.instance_id}"


@dataclass(frozen=True)
class StartKong:
    """Start Kong, which does not run."""

    instance_id: str
    service: str
    port: int

    def __str__(self) -> str:
        return f"start Kong at port {self.port}"


@dataclass(frozen=True)
class StopKong:
    """Stop a Kong of ours that is no longer wanted, or does not answer."""

    instance_id: str

    def __str__(self) -> str:
        return "stop Kong"


@dataclass(frozen=True)
class PostDocument:
    """Post to Kong the document that it should have, with routes to `services`."""

    document: Document
    services: tuple[str, ...]

    def __str__(self) -> str:
        return f"post Kong's document, with routes to {', '.join(self.services) or 'no service'}"


@dataclass(frozen=True)
class CloseKong:
    """Remove our routes from a Kong that we don't run, before their services go."""

    def __str__(self) -> str:
        return "remove the routes of this mesh from Kong"


@dataclass(frozen=True)
class Drain:
    """Send an instance no new calls; its calls under way go on."""

    instance_id: str

    def __str__(self) -> str:
        return f"drain {self.instance_id}"


@dataclass(frozen=True)
class Deregister:
    """Remove an instance (or the ingress), and its sidecar, from Consul."""

    instance_id: str
    sidecar_id: str | None

    def __str__(self) -> str:
        return f"deregister {self.instance_id}"


@dataclass(frozen=True)
class StopSidecar:
    """Stop an Envoy that is no longer wanted, or does not answer."""

    instance_id: str

    def __str__(self) -> str:
        return f"stop the sidecar of {self.instance_id}"


@dataclass(frozen=True)
class StopWorkload:
    """Stop an instance that is no longer wanted, or does not answer."""

    instance_id: str

    def __str__(self) -> str:
        return f"stop {self.instance_id}"


@dataclass(frozen=True)
class EndStray:
    """End a process of ours that belongs to no instance."""

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
