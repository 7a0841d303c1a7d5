"""What makes sense only in the light of other services: routes, callers, upstreams.

Told from the nodes, so that a mistake elsewhere in a service hides nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping

from mcpmesh.catalog.problems import Findings
from mcpmesh.catalog.syntax_tree import Node, nearest
from mcpmesh.catalog.validate import RESERVED, starts


def check_relations(services: Mapping[str, Node], findings: Findings) -> None:
    """Checks each of the services, as `gathering.prepared` made them, against the others."""
    _check_routes(services, findings)
    for name, service in services.items():
        _check_callers(service, services, findings)
        _check_upstreams(name, service, services, findings)
    _check_ports(services, findings)


def default_route(name: str) -> str:
    """The path of an MCP server that says nothing of a route."""
    return f"/mcp/{name}"


def _route(name: str, service: Node) -> str | None:
    written = service.get("route").value
    if isinstance(written, str):
        return written.rstrip("/")
    wants_default = written in (None, True)
    return default_route(name) if wants_default and {"command", "image", "url"} & set(starts(service)) else None


def _check_routes(services: Mapping[str, Node], findings: Findings) -> None:
    owners: dict[str, str] = {}
    for name, service in services.items():
        route = _route(name, service)
        if route is None:
            continue
        owner = owners.setdefault(route, name)
        if owner != name:
            place = service.mapping.get("route", service)
            findings.refuse(place, f"is the route {route}, which {owner} has; give one of them another `route`")


def _check_callers(service: Node, services: Mapping[str, Node], findings: Findings) -> None:
    for caller in service.get("allow").items:
        name = caller.text
        if name != "*" and name not in services and name not in RESERVED:
            findings.warn(caller, f"names {name}, which is no service of this catalog{nearest(name, list(services))}")


def _upstreams(service: Node) -> list[tuple[Node, str, int | None]]:
    """Place, service and port of each upstream."""
    found = []
    for place in service.get("upstreams").items:
        target = place.mapping.get("service", place)
        port = place.get("port").value
        if isinstance(target.value, str):
            found.append((place, target.value, port if isinstance(port, int) else None))
    return found


def _check_upstreams(name: str, service: Node, services: Mapping[str, Node], findings: Findings) -> None:
    seen: set[str] = set()
    for place, target, _ in _upstreams(service):
        if target not in services:
            guess = nearest(target, list(services)) or "; add it, or remove it here"
            findings.refuse(place, f"names {target}, which is no service of this catalog{guess}")
        elif target == name:
            findings.refuse(place, "is the service itself; remove it")
        elif target in seen:
            findings.refuse(place, f"names {target} twice; keep one")
        elif not {name, "*"} & {caller.text for caller in services[target].get("allow").items}:
            findings.warn(place, f"gets 403 there: add {name} to `allow` of {target}")
        seen.add(target)


def _check_ports(services: Mapping[str, Node], findings: Findings) -> None:
    owners: dict[int, str] = {}
    for name, service in services.items():
        instances = service.get("instances").value
        for place, target, port in _upstreams(service):
            if port is None:
                continue
            owner = owners.setdefault(port, f"{name}'s {target}")
            if owner != f"{name}'s {target}":
                findings.refuse(place, f"has the port {port}, which {owner} has; choose another, or leave it out")
            elif instances not in (None, 1):
                findings.refuse(place, "has a port of its own, which several instances can't share; leave it out")
