"""How often the agent's tasks poll and retry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Intervals:
    """All in seconds."""

    # A mesh that could not be brought up is tried again after the first of these, then ever later, up to the second.
    first_retry: float = 2.0
    longest_retry: float = 60.0
    # How soon a document that somebody else posted to Kong, or a Kong that lost ours, is noticed.
    kong: float = 1.0
    # How soon a saved document for Kong is in force.
    kong_documents: float = 1.0
    # How soon compose's wish to start or stop the servers is noticed.
    compose_signal: float = 0.3
    # How soon a failed attempt to follow it is repeated.
    compose_retry: float = 1.0
    # How soon it is noticed that the servers have stopped.
    compose_stopped: float = 0.2
    # How soon a new address of the ingress's container is noticed.
    ingress_address: float = 1.0


DEFAULT_INTERVALS = Intervals()
