"""Groups of actions: the unit in which a plan is applied, and in which failures hold it up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class GroupKind(Enum):
    """The subject of a group."""

    SERVICE = auto()
    INGRESS = auto()
    KONG_DOCUMENT = auto()
    STRAYS = auto()


@dataclass(frozen=True)
class ActionGroup:
    """Actions of one subject, applied in order; groups are applied side by side.

    A failed action holds up the rest of its group and no other group. Plans
    and the log show a group as its `name`; groups of two kinds may share one.
    """

    kind: GroupKind
    name: str

    def __str__(self) -> str:
        return self.name


def service_group(name: str) -> ActionGroup:
    """Everything of one service."""
    return ActionGroup(GroupKind.SERVICE, name)


def ingress_group(service: str) -> ActionGroup:
    """The ingress, whose identity is `service`."""
    return ActionGroup(GroupKind.INGRESS, service)


# Apart from the ingress, so that a document that Kong refuses holds nothing else up.
KONG_DOCUMENT = ActionGroup(GroupKind.KONG_DOCUMENT, "kong document")
# Processes with our mark that belong to no instance.
STRAYS = ActionGroup(GroupKind.STRAYS, "mesh")
