"""The client of Consul's HTTP API: every read and write that the agent makes.

Nothing without our mark is overwritten or deleted. Config entries and shared
intentions are written by check-and-set, so nothing can change between the
check and the write. Every failure is a PeerError that says what could not be
done.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr

from mcpmesh.consul import blocking_queries, decoding, leaf_certificate
from mcpmesh.consul.cas_writer import CasWriter, none_if_missing
from mcpmesh.consul.ownership import OWNER
from mcpmesh.consul.transport import ErrorAnswer, Http, Library, gather_or_cancel, translate_errors
from mcpmesh.errors import NotOurs, Refused
from mcpmesh.model.observed_state import Entry, Intention, Registration

T = TypeVar("T")

# The kinds of config entries that we write.
KINDS = ("service-defaults", "service-resolver", "service-router", "api-gateway", "http-route")

# How long a blocking query waits before Consul answers that nothing changed.
WAIT_SECONDS = 60.0

_WATCHED = {
    "/v1/health/state/any": "health",
    "/v1/catalog/services": "services",
    "/v1/connect/intentions": "intentions",
    **{f"/v1/config/{kind}": kind for kind in KINDS},
}


class Consul:
    """A client of the Consul agent at `address` ("http://host:port"), with `token`.

    Every method raises Unreachable, Broken or Refused. Methods that write also
    raise NotOurs where something of that name exists and is not the mesh's.
    """

    def __init__(
        self, address: str, token: SecretStr | None = None, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._http = Http(address, token, transport)
        self._library = Library(self._http)
        self._writer = CasWriter(self._http, self._library)
        self.address = self._http.address

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()

    async def leader(self) -> str:
        """The leader's address; "" while there is none."""
        return str(await self._ask("read the leader", self._library.status.leader()))

    async def trust_domain(self) -> str:
        """The trust domain, with which every SPIFFE id begins; "" while there is no certificate authority yet."""

        async def read() -> str:
            return str((await self._library.agent.connect.root_certificates()).get("TrustDomain") or "")

        return await self._ask("read the trust domain", read())

    async def version(self) -> str:
        """Consul's version, such as "1.22.5"."""

        async def read() -> str:
            return str((await self._library.agent.self())["Config"]["Version"])

        return await self._ask("read the version", read())

    async def grpc_address(self) -> str:
        """The address at which its agent serves xDS in plain text, "host:port"."""

        async def read() -> int:
            return int((await self._library.agent.self())["xDS"]["Ports"]["Plaintext"])

        port = await self._ask("read the xDS port", read())
        if port <= 0:
            raise Refused(f"cannot use Consul at {self.address}: it serves no xDS; set ports.grpc in its configuration")
        return f"{httpx.URL(self.address).host}:{port}"

    async def registrations(self, mesh: str) -> dict[str, Registration]:
        """The registrations of `mesh` with this agent by instance id, each with its sidecar and checks."""

        async def read() -> dict[str, Registration]:
            services, checks = await gather_or_cancel(self._library.agent.services(), self._library.agent.checks())
            return decoding.registrations(services, checks, mesh)

        return await self._ask("read the registrations", read())

    async def register(self, payloads: Sequence[Mapping[str, Any]]) -> None:
        """Registers in the given order; existing checks keep their status, checks that are not listed are removed."""
        for payload in payloads:
            action = f'register "{payload["ID"]}"'
            path = f"/v1/agent/service/{payload['ID']}"
            present = await self._ask(action, none_if_missing(self._http.call("GET", path)))
            if present is not None and (present.get("Meta") or {}).get(OWNER) != payload["Meta"][OWNER]:
                raise NotOurs(f"cannot {action}: that id is registered, and not by this mesh; deregister it first")
            query = {"replace-existing-checks": "true"}
            await self._ask(action, self._http.call("PUT", "/v1/agent/service/register", query, payload))

    async def deregister(self, service_id: str) -> None:
        """Deregisters the sidecar of that instance, then the instance; a missing one is no error."""
        for id_ in (f"{service_id}-sidecar", service_id):
            await self._ask(f'deregister "{id_}"', none_if_missing(self._library.agent.service.deregister(id_)))

    async def drain(self, service_id: str, reason: str) -> None:
        """Puts the instance and its sidecar into maintenance mode, so that callers send them no new calls."""
        service = self._library.agent.service
        for id_ in (f"{service_id}-sidecar", service_id):
            await self._ask(f'drain "{id_}"', none_if_missing(service.maintenance(id_, "true", reason)))

    # `mesh` is for test doubles that return the entries of one mesh alone.
    async def entries(self, mesh: str) -> dict[tuple[str, str], Entry]:  # noqa: ARG002
        """All config entries of the kinds that we write, by kind and name, also other people's."""

        async def read() -> dict[tuple[str, str], Entry]:
            return decoding.entries(await gather_or_cancel(*(self._library.config.list(kind) for kind in KINDS)))

        return await self._ask("read the config entries", read())

    async def write_entry(self, payload: Mapping[str, Any]) -> None:
        """Creates or replaces a config entry, unless one exists without the same owner mark (NotOurs)."""
        await self._ask(f"write {payload['Kind']}/{payload['Name']}", self._writer.write(payload))

    async def delete_entry(self, kind: str, name: str, mesh: str) -> None:
        """Deletes a config entry of `mesh`, and no other (NotOurs); a missing one is no error."""
        await self._ask(f"delete {kind}/{name}", self._writer.delete(kind, name, mesh))

    async def intentions(self) -> tuple[Intention, ...]:
        """Every intention, also other people's."""

        async def read() -> tuple[Intention, ...]:
            return tuple(decoding.intentions(await self._library.connect.intentions.list()))

        return await self._ask("read the intentions", read())

    async def allow(self, source: str, destination: str, mesh: str) -> None:
        """Allows `source` to call `destination`; an existing intention for that pair is left as it is."""
        await self._ask(f"allow {source} => {destination}", self._writer.allow(source, destination, mesh))

    async def deny_by_default(self) -> None:
        """Writes `* => *` (deny) as an intention, unless there is one.

        `default_intention_policy` already denies in every proxy, but Consul
        1.22 ignores it when it answers `consul intention check`.
        """
        await self._ask("deny * => *", self._writer.deny("*", "*", "what no other intention allows"))

    async def revoke(self, intention: Intention, mesh: str) -> None:
        """Deletes an intention that `mesh` wrote; one that a person has changed meanwhile is kept."""
        pair = f"{intention.source} => {intention.destination}"
        if intention.owner != mesh:
            raise NotOurs(f"cannot revoke {pair}: it was not written by this mesh; delete it by hand")
        await self._ask(f"revoke {pair}", self._writer.revoke(intention.source, intention.destination, mesh))

    async def identity(self, service: str) -> leaf_certificate.Identity:
        """The certificate for a service of this name; reading it registers nothing."""

        async def read() -> leaf_certificate.Identity:
            # The library's own method lacks the /v1.
            issued = self._http.call("GET", f"/v1/agent/connect/ca/leaf/{service}")
            answers = await gather_or_cancel(issued, self._library.agent.connect.root_certificates())
            return leaf_certificate.identity_from(service, *answers)

        return await self._ask(f'get a certificate for "{service}"', read())

    def changes(self) -> AsyncGenerator[str, None]:
        """Yields "health", "services", "intentions" or a kind of config entry whenever that has changed.

        It continues while Consul is away. Close it (`contextlib.aclosing`).
        """

        async def query(path: str, index: int) -> int:
            return await self._http.blocking(path, index, WAIT_SECONDS)

        return blocking_queries.changes(query, _WATCHED, (httpx.HTTPError, ErrorAnswer, KeyError, ValueError))

    async def _ask(self, action: str, request: Awaitable[T]) -> T:
        return await translate_errors(action, self.address, request)
