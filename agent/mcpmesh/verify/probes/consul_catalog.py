"""Consul's answers as anybody gets them, read apart from the client that the mesh is run with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr

from mcpmesh.errors import Broken, Refused, Unreachable
from mcpmesh.verify.finding import ANSWER_SECONDS

PASSING = "passing"


@dataclass(frozen=True)
class Entry:
    """One instance or sidecar in the catalog; `failing` are its checks that don't pass, with their output."""

    id: str
    address: str
    port: int
    failing: tuple[str, ...]
    checks: int


class CatalogReader:
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

    async def instances(self, service: str) -> dict[str, Entry]:
        """The instances of a service as callers' Envoys learn of them, by id."""
        return entries(await self._get(f"/v1/health/service/{service}"))

    async def sidecars(self, service: str) -> dict[str, Entry]:
        """The sidecars that speak for a service, by id."""
        return entries(await self._get(f"/v1/health/connect/{service}"))

    async def default_policy(self) -> str:
        """What Consul does with a pair that no intention names: "allow" or "deny"."""
        return default_policy(await self._get("/v1/agent/self"))

    async def _get(self, path: str) -> Any:
        what = f"{self._http.base_url.join(path)}"
        try:
            answer = await self._http.get(path)
            if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
                raise Broken(f"cannot read {what}: HTTP {answer.status_code} {answer.text[:200].strip()}")
            if answer.status_code >= httpx.codes.BAD_REQUEST:
                raise Refused(f"cannot read {what}: HTTP {answer.status_code} {answer.text[:200].strip()}")
            return answer.json()
        except httpx.TransportError as error:
            raise Unreachable(f"cannot read {what}: {str(error) or type(error).__name__}") from error
        except ValueError as error:
            raise Broken(f"cannot read {what}: the answer is no JSON") from error


def entries(answer: list[Mapping[str, Any]]) -> dict[str, Entry]:
    """From the JSON of /v1/health/service/… and /v1/health/connect/…; pure."""
    found = {}
    for item in answer:
        service, checks = item["Service"], [check for check in item["Checks"] if check.get("ServiceID")]
        failing = tuple(
            f"{check['Name']} is {check['Status']}: {' '.join((check.get('Output') or '').split())[:200]}".rstrip(": ")
            for check in checks
            if check["Status"] != PASSING
        )
        address = service.get("Address") or item["Node"]["Address"]
        found[service["ID"]] = Entry(service["ID"], address, service["Port"], failing, len(checks))
    return found


def default_policy(answer: Mapping[str, Any]) -> str:
    """From the JSON of /v1/agent/self: without a policy of its own, that of the ACLs counts; pure."""
    configuration = answer["DebugConfig"]
    acl = configuration.get("ACLResolverSettings") or {}
    own = configuration.get("DefaultIntentionPolicy") or ""
    # ACLs that are off deny nothing, whatever their default says.
    return str(own or (acl.get("ACLDefaultPolicy") if acl.get("ACLsEnabled") else "") or "allow")
