"""Decodes Consul's JSON into the model; pure.

Raises KeyError, TypeError, AttributeError or ValueError where the JSON is not
Consul's: an answer of another shape must not be taken for "there is nothing".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from mcpmesh.consul.ownership import DIGEST, OWNER, POLICY, owner_in_description
from mcpmesh.model.instance import canonical
from mcpmesh.model.observed_state import Entry, Intention, Registration

Json = Mapping[str, Any]
T = TypeVar("T")

_MAINTENANCE = "_service_maintenance:"
_MAX_OUTPUT_LENGTH = 200


def registrations(services: Mapping[str, Json], checks: Mapping[str, Json], mesh: str) -> dict[str, Registration]:
    """The instances of `mesh` by id, each with its sidecar.

    A sidecar without its instance is listed under its own id, so that it can
    be removed. Where the digests of the two differ, the digest is "".
    """
    services, checks = _expect(dict, services), _expect(dict, checks)
    ours = {id_: service for id_, service in services.items() if (service.get("Meta") or {}).get(OWNER) == mesh}
    sidecars = {
        service["Proxy"]["DestinationServiceID"]: service
        for service in ours.values()
        if service.get("Kind") == "connect-proxy" and service["Proxy"].get("DestinationServiceID") in ours
    }
    by_service: dict[str, list[Json]] = {}
    for check in checks.values():
        by_service.setdefault(check["ServiceID"], []).append(check)
    joined = {sidecar["ID"] for sidecar in sidecars.values()}
    return {
        id_: _registration(service, sidecars.get(id_), by_service) for id_, service in ours.items() if id_ not in joined
    }


def _registration(service: Json, sidecar: Json | None, checks: Mapping[str, list[Json]]) -> Registration:
    own_checks = [*checks.get(service["ID"], ()), *(checks.get(sidecar["ID"], ()) if sidecar else ())]
    failing = tuple(sorted(_failure(check) for check in own_checks if check["Status"] != "passing"))
    digest = service["Meta"].get(DIGEST, "")
    digests_agree = sidecar is None or sidecar["Meta"].get(DIGEST) == digest
    destination = (service.get("Proxy") or {}).get("DestinationServiceName")
    return Registration(
        id=service["ID"],
        service=destination or service["Service"],
        port=service["Port"],
        sidecar_port=sidecar["Port"] if sidecar else None,
        digest=digest if digests_agree else "",
        draining=any(check["CheckID"].startswith(_MAINTENANCE) for check in own_checks),
        passing=not failing,
        failing=failing,
        sidecar_host=(sidecar or service)["Address"],
    )


def _failure(check: Json) -> str:
    output = " ".join((check.get("Output") or check.get("Notes") or "").split())[:_MAX_OUTPUT_LENGTH]
    return f"{check['Name']}: {output}" if output else str(check["Name"])


def entries(lists: Iterable[Iterable[Json]]) -> dict[tuple[str, str], Entry]:
    """Config entries by kind and name, ours and other people's."""
    found = (entry(item) for items in lists for item in _expect(list, items))
    return {(item.kind, item.name): item for item in found}


def entry(item: Json) -> Entry:
    """One config entry."""
    meta = item.get("Meta") or {}
    return Entry(item["Kind"], item["Name"], meta.get(OWNER), meta.get(DIGEST), meta.get(POLICY))


def intentions(items: Iterable[Json]) -> Iterator[Intention]:
    """The intentions in the answer to `GET /v1/connect/intentions`.

    One with rules for single requests has the action "permissions". An
    intention is ours if its action is "allow" and it has our description. A
    change in Consul's UI keeps the description, but with another action the
    intention is the person's from then on.
    """
    for item in _expect(list, items):
        action = item.get("Action") or "permissions"
        source = f"{item['SourcePeer']}/{item['SourceName']}" if item.get("SourcePeer") else item["SourceName"]
        owner = owner_in_description(item.get("Description", "")) if action == "allow" else None
        rules = hashlib.sha256(canonical({"rules": item["Permissions"]})).hexdigest() if item.get("Permissions") else ""
        yield Intention(item.get("ID", ""), source, item["DestinationName"], action, owner, rules)


def _expect(kind: type[T], answer: object) -> T:
    if not isinstance(answer, kind):
        raise TypeError(f"a {kind.__name__} was expected, not {answer!r:.100}")
    return answer
