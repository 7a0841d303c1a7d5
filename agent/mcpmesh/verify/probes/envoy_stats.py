"""What an Envoy's admin address says: counters and version."""

from __future__ import annotations

import httpx

from mcpmesh.errors import Unreachable
from mcpmesh.verify.time_limits import ANSWER_SECONDS


async def rejected_updates(http: httpx.AsyncClient, address: str) -> list[str]:
    """The names of the `update_rejected` counters that are not 0; none where they can't be read."""
    query = {"filter": r"\.update_rejected$", "usedonly": "", "format": "json"}
    try:
        answer = await http.get(f"http://{address}/stats", params=query, timeout=ANSWER_SECONDS)
        stats = answer.json()["stats"]
    except (httpx.TransportError, ValueError, KeyError):
        return []
    return [str(stat["name"]) for stat in stats if stat.get("value")]


async def denied_connections(http: httpx.AsyncClient, address: str) -> int:
    """How many TCP connections the access control of this Envoy has denied so far; raises Unreachable."""
    query = {"filter": r"^connect_authz\.rbac\.denied$", "format": "json"}
    try:
        answer = await http.get(f"http://{address}/stats", params=query, timeout=ANSWER_SECONDS)
        return sum(stat.get("value", 0) for stat in answer.json()["stats"])
    except (httpx.TransportError, ValueError, KeyError) as error:
        raise Unreachable(f"no counters from the Envoy admin address {address}: {error!r}") from error


async def read_version(http: httpx.AsyncClient, address: str) -> str:
    """The version of the Envoy at this admin address, such as "1.40.0"; raises Unreachable."""
    try:
        answer = await http.get(f"http://{address}/server_info", timeout=ANSWER_SECONDS)
        return parse_version(str(answer.json()["version"]))
    except (httpx.TransportError, ValueError, KeyError) as error:
        raise Unreachable(f"no version from the Envoy admin address {address}: {error!r}") from error


def parse_version(text: str) -> str:
    """From "commit/1.40.0/Clean/RELEASE/BoringSSL"; the whole text where it has another form."""
    parts = text.split("/")
    return parts[1] if len(parts) > 1 else text
