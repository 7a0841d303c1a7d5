"""An Envoy's admin address (on loopback, or a socket): what it reports, and the commands that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from mcpmesh.errors import Broken, Unreachable
from mcpmesh.kit.unix_http import http_client

# An Envoy answers in milliseconds; a caller that will ask again soon need not wait longer.
_SECONDS = 2.0

_FILTER = (
    r"(\.update_rejected$|^http\.(public_listener|ingress_upstream_\d+)\.downstream_rq_active$"
    r"|^cluster\..*\.consul\.(membership_healthy|outlier_detection\.ejections_active)$)"
)


@dataclass(frozen=True)
class EnvoyReport:
    """`active`: requests under way on the mesh's listeners. `rejected`: xDS updates rejected since its start.

    `endpoints` says to how many instances of each service it would send
    calls, as far as Consul has told it. Those that it ejected count too.
    """

    ready: bool
    active: int
    rejected: int
    clusters: tuple[str, ...]
    endpoints: Mapping[str, int]


class EnvoyAdmin:
    """Sends requests to the admin addresses ("host:port") of our Envoys; one object serves them all."""

    def __init__(self, socket_folder: Path | None = None) -> None:
        self._http = http_client(socket_folder, timeout=_SECONDS)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def report(self, address: str, seconds: float = _SECONDS) -> EnvoyReport:
        """Readiness and counters; raises Unreachable where a request gets no answer within `seconds`."""
        ready = await self._request("GET", address, "/ready", seconds=seconds)
        answer = await self._request("GET", address, "/stats", {"filter": _FILTER, "format": "json"}, seconds)
        active = rejected = 0
        clusters: list[str] = []
        endpoints: dict[str, int] = {}
        for stat in answer.json()["stats"]:
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
                endpoints[service] = endpoints.get(service, 0) + value
        return EnvoyReport(ready.text.strip() == "LIVE", active, rejected, tuple(clusters), endpoints)

    async def listening(self, address: str) -> frozenset[int]:
        """The ports of its active listeners."""
        answer = await self._request("GET", address, "/listeners", {"format": "json"})
        listeners = (item.get("local_address", {}) for item in answer.json().get("listener_statuses", ()))
        ports = (item.get("socket_address", {}).get("port_value") for item in listeners)
        return frozenset(port for port in ports if port is not None)

    async def drain(self, address: str) -> None:
        """Makes it stop accepting connections; requests under way continue."""
        await self._request("POST", address, "/drain_listeners", {"graceful": "true", "skip_exit": "true"})

    async def quit(self, address: str) -> None:
        """Ends that Envoy."""
        await self._request("POST", address, "/quitquitquit")

    async def set_runtime(self, address: str, values: Mapping[str, str]) -> None:
        """Sets runtime keys; calling it again changes nothing."""
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
