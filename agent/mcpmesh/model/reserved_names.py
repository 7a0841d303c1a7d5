"""Names that the mesh uses itself.

They outlive an agent: the next agent, and `mcpmesh verify`, find by them what an earlier agent left running.
"""

from __future__ import annotations

# The agent's role in the mark of its process. Every other role stands in the module that starts such a process.
AGENT = "agent"

# The agent's identity when it proves that an instance answers. Each service allows it.
AGENT_IDENTITY = "mcpmesh-agent"
# The agent's identity when it proves that others are kept out. No intention names it.
STRANGER_IDENTITY = "mcpmesh-stranger"

# Names that a service of a catalog cannot have.
RESERVED_NAMES = ("ingress", AGENT_IDENTITY, STRANGER_IDENTITY, "consul")
# Consul names the sidecar of a service by this suffix.
SIDECAR_SUFFIX = "-sidecar-proxy"


def is_reserved(name: str) -> bool:
    """Whether a service of that name would clash with one of the mesh or of Consul."""
    return name in RESERVED_NAMES or name.endswith(SIDECAR_SUFFIX)
