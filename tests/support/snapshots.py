"""What `verify` has read of a system that a test makes up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcpmesh.kit.marked_process import Process
from mcpmesh.verify.probes.namespaces import Ground
from mcpmesh.verify.snapshot import Facts
from mcpmesh.verify.target import World


def facts_of(world: World, processes: Sequence[Process], ground: Ground) -> Facts:
    """These processes on this ground, and nothing in Consul; what makes calls of its own is not there."""
    nothing: Any = None
    return Facts(
        world=world,
        http=nothing,
        catalog=nothing,
        registrations={},
        entries={},
        intentions=(),
        agent=nothing,
        stranger=nothing,
        foreigner=nothing,
        front=nothing,
        processes=tuple(processes),
        ground=ground,
    )
