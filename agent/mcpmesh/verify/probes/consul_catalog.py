"""Consul's catalog as every client gets it.

It is read apart from the client that the mesh is run with: `verify` must not
share that one's mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr

from mcpmesh.errors import Broken, Refused, Unreachable
from mcpmesh.verify.time_limits import ANSWER_SECONDS

PASSING = "passing"


@dataclass(frozen=True)
class CatalogEntry:
    """One instance or sidecar in the catalog.

    `failing` are those of its `checks` (a number) that don't pass, each with its output.
    """

    id: str
    address: str
    port: int
    failing: tuple[str, ...]
    checks: int


class ConsulCatalog:
    """Reads the catalog of the Consul at `address`; raises Unreachable, Refused or Broken."""

    def __init__(
        self, address: str, token: SecretStr | None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        headers = {"X-Consul-Token": token.get_secret_value()} if token is not None else {}
        self._http = httpx.AsyncClient(
            base_url=address, headers=headers, timeout=ANSWER_SECONDS, transport=transport, trust_env=False
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def instances(self, service: str) -> dict[str, CatalogEntry]:
        """The instances of a service by id, as callers' Envoys learn of them."""
        return parse_entries(await self._get(f"/v1/health/service/{service}"))

    async def sidecars(self, service: str) -> dict[str, CatalogEntry]:
        """The sidecars of a service by id."""
        return parse_entries(await self._get(f"/v1/health/connect/{service}"))

    async def default_policy(self) -> str:
        """What Consul does with a pair that no intention names: "allow" or "deny"."""
        return parse_default_policy(await self._get("/v1/agent/self"))

    async def _get(self, path: str) -> Any:
        url = f"{self._http.base_url.join(path)}"
        try:
            answer = await self._http.get(path)
            if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
                raise Broken(f"cannot read {url}: HTTP {answer.status_code} {answer.text[:200].strip()}")
            if answer.status_code >= httpx.codes.BAD_REQUEST:
                raise Refused(f"cannot read {url}: HTTP {answer.status_code} {answer.text[:200].strip()}")
            return answer.json()
        except httpx.TransportError as error:
            raise Unreachable(f"cannot read {url}: {str(error) or type(error).__name__}") from error
        except ValueError as error:
            raise Broken(f"cannot read {url}: the answer is no JSON") from error


def parse_entries(answer: list[Mapping[str, Any]]) -> dict[str, CatalogEntry]:
    """From the JSON of /v1/health/service/… and /v1/health/connect/…; checks of the node are left out."""
    entries = {}
    for item in answer:
        service, checks = item["Service"], [check for check in item["Checks"] if check.get("ServiceID")]
        failing = tuple(
            f"{check['Name']} is {check['Status']}: {' '.join((check.get('Output') or '').split())[:200]}".rstrip(": ")
            for check in checks
            if check["Status"] != PASSING
        )
        address = service.get("Address") or item["Node"]["Address"]
        entries[service["ID"]] = CatalogEntry(service["ID"], address, service["Port"], failing, len(checks))
    return entries


def parse_default_policy(answer: Mapping[str, Any]) -> str:
    """From the JSON of /v1/agent/self. Without a default for intentions, that of the ACLs counts."""
    configuration = answer["DebugConfig"]
    acl = configuration.get("ACLResolverSettings") or {}
    of_intentions = configuration.get("DefaultIntentionPolicy") or ""
    # ACLs that are off deny nothing, whatever their default says.
    of_acls = acl.get("ACLDefaultPolicy") if acl.get("ACLsEnabled") else ""
    return str(of_intentions or of_acls or "allow")
