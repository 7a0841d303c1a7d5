"""What an Envoy says of itself at its admin address (loopback, or a socket), and the verbs it takes there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from mcpmesh.errors import Broken, Unreachable
from mcpmesh.kit.unix_http import http_client

# An Envoy answers in milliseconds; who looks again soon need not wait longer.
_SECONDS = 2.0

_FILTER = (
    r"(\.update_rejected$|^http\.(public_listener|ingress_upstream_\d+)\.downstream_rq_active$"
    r"|^cluster\..*\.consul\.(membership_healthy|outlier_detection\.ejections_active)$)"
)


@dataclass(frozen=True)
class EnvoyReport:
    """One look: `active` requests under way on the listeners of the mesh, `rejected` xDS updates ever.

    `known` says how many instances of each service it would send calls to, as
    far as Consul has told it; those it ejected by itself count too.
    """

    ready: bool
    active: int
    rejected: int
    clusters: tuple[str, ...]
    known: Mapping[str, int]


class EnvoyAdmin:
    """Speaks to the admin addresses ("host:port") of our Envoys; one instance serves them all."""

    def __init__(self, sockets: Path | None = None) -> None:
        self._http = http_client(sockets, timeout=_SECONDS)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def report(self, address: str, seconds: float = _SECONDS) -> EnvoyReport:
        """Readiness and counters; raises Unreachable when nobody answers a question within `seconds`."""
        ready = await self._request("GET", address, "/ready", seconds=seconds)
        answer = await self._request("GET", address, "/stats", {"filter": _FILTER, "format": "json"}, seconds)
        stats = answer.json()["stats"]
        active = rejected = 0
        clusters: list[str] = []
        known: dict[str, int] = {}
        for stat in stats:
            name, value = stat.get("name", ""), stat.get("value", 0)
            if name.endswith(".update_rejected"):
                rejected += value
                if name.startswith("cluster.") and name.endswith(".consul.update_rejected"):
                    clusters.append(name.removeprefix("cluster.").removesuffix(".update_rejected"))
            elif name.endswith(".downstream_rq_active"):
                active += value
            elif name.endswith((".membership_healthy", ".ejections_active")):
                # "cluster.files.default.dc1.internal.<trust domain>.consul.membership_healthy"
                service = name.split(".", 2)[1]
                known[service] = known.get(service, 0) + value
        return EnvoyReport(ready.text.strip() == "LIVE", active, rejected, tuple(clusters), known)

    async def listening(self, address: str) -> frozenset[int]:
        """The ports of its listeners that are in use."""
        answer = await self._request("GET", address, "/listeners", {"format": "json"})
        found = (item.get("local_address", {}) for item in answer.json().get("listener_statuses", ()))
        ports = (item.get("socket_address", {}).get("port_value") for item in found)
        return frozenset(port for port in ports if port is not None)

    async def drain(self, address: str) -> None:
        """Stops accepting; what is under way goes on."""
        await self._request("POST", address, "/drain_listeners", {"graceful": "true", "skip_exit": "true"})

    async def quit(self, address: str) -> None:
        """Ends that Envoy."""
        await self._request("POST", address, "/quitquitquit")

    async def set_runtime(self, address: str, values: Mapping[str, str]) -> None:
        """Sets runtime keys; the same call again changes nothing."""
        if values:
            await self._request("POST", address, "/runtime_modify", values)

    async def _request(
        self, method: str, address: str, path: str, query: Mapping[str, str] | None = None, seconds: float = _SECONDS
    ) -> httpx.Response:
        try:
            answer = await self._http.request(method, f"http://{address}{path}", params=query, timeout=seconds)
        except httpx.TransportError as error:
            raise Unreachable(f"cannot reach the Envoy admin address {address}: {error!r}") from error
        if answer.status_code >= 400 and path != "/ready":
            raise Broken(f"cannot {method} {path} at the Envoy admin address {address}: HTTP {answer.status_code}")
        return answer
