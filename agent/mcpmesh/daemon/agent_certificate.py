"""The agent's own identity on the mesh, renewed before it expires."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

from mcpmesh.consul.client import Consul
from mcpmesh.consul.leaf_certificate import Identity

# A certificate of Consul's is valid for 72 h, and Consul renews its own copy long
# before. Reading it this often picks up the new one, and a rotated root too.
_SECONDS = 600.0


class Credentials:
    """The TLS context of one service, cached for ten minutes."""

    def __init__(self, consul: Consul, service: str) -> None:
        self._consul = consul
        self._service = service
        self._cached: tuple[float, Identity, ssl.SSLContext] | None = None

    async def __call__(self) -> tuple[ssl.SSLContext, Callable[[str], str]]:
        """The context, and a function from a service's name to its SPIFFE id."""
        now = time.monotonic()
        if self._cached is None or now - self._cached[0] > _SECONDS:
            identity = await self._consul.identity(self._service)
            self._cached = (now, identity, identity.ssl_context())
        prefix = self._cached[1].spiffe.rpartition("/svc/")[0]
        return self._cached[2], lambda service: f"{prefix}/svc/{service}"

    def forget(self) -> None:
        """Reads it again next time: Consul may have another root now."""
        self._cached = None
