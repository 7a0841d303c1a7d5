"""Placements: what a call needs of the server process that it is sent to."""

from __future__ import annotations

from enum import Enum

from mcpmesh.shim.server.peer import Peer


class Placement(Enum):
    """What a call needs of its process. A process with a lease is reserved for the call that holds it."""

    ANY = "the method never asks the client, so the call runs beside any other"
    SHARED = "runs beside other calls, but not beside one that is being asked"
    ASKABLE = "may be asked, so not where an abandoned call could be the one that a server request belongs to"
    EXCLUSIVE = "is known to be asked, so no other call may be there that a server request could belong to"

    def fits(self, peer: Peer) -> bool:
        """Whether the process can take such a call now."""
        if self is Placement.ANY:
            return True
        if peer.lease is not None or (self is not Placement.SHARED and peer.has_abandoned_calls):
            return False
        return self is not Placement.EXCLUSIVE or not any(call.may_ask_client for call in peer.calls.values())
