"""Who the agent is on the mesh, renewed before it expires."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

from mcpmesh.consul.client import Consul
from mcpmesh.consul.leaf_certificate import Identity

# Consul's certificates live 72 h, and Consul renews its own copy long before;
# asking again this often picks that up, and a rotated root with it.
_SECONDS = 600.0


class Credentials:
    """TLS contexts by identity, cached for ten minutes."""

    def __init__(self, consul: Consul, service: str) -> None:
        self._consul = consul
        self._service = service
        self._cached: tuple[float, Identity, ssl.SSLContext] | None = None

    async def __call__(self) -> tuple[ssl.SSLContext, Callable[[str], str]]:
        """The context of this identity, and what turns a service's name into its SPIFFE id."""
        now = time.monotonic()
        if self._cached is None or now - self._cached[0] > _SECONDS:
            identity = await self._consul.identity(self._service)
            self._cached = (now, identity, identity.ssl_context())
        prefix = self._cached[1].spiffe.rpartition("/svc/")[0]
        return self._cached[2], lambda service: f"{prefix}/svc/{service}"

    def forget(self) -> None:
        """Asks anew next time: the Consul behind may have another root now."""
        self._cached = None
