"""Rules about several services: routes, callers, upstreams.

They are checked on the syntax tree, so that a mistake elsewhere in a service hides nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping

from mcpmesh.catalog.problems import Problems, did_you_mean
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.catalog.validate import is_mcp_server
from mcpmesh.model.reserved_names import RESERVED_NAMES
from mcpmesh.model.service import default_route


def check_cross_references(services: Mapping[str, Node], problems: Problems) -> None:
    """Checks each of the services, complete with its defaults, against the others."""
    _check_routes(services, problems)
    for name, service in services.items():
        _check_callers(service, services, problems)
        _check_upstreams(name, service, services, problems)
    _check_ports(services, problems)


def _route(name: str, service: Node) -> str | None:
    written = service.get("route").value
    if isinstance(written, str):
        return written.rstrip("/")
    return default_route(name) if written in (None, True) and is_mcp_server(service) else None


def _check_routes(services: Mapping[str, Node], problems: Problems) -> None:
    owners: dict[str, str] = {}
    for name, service in services.items():
        route = _route(name, service)
        if route is None:
            continue
        owner = owners.setdefault(route, name)
        if owner != name:
            place = service.mapping.get("route", service)
            problems.add(place, f"is the route {route}, which {owner} has; give one of them another `route`")


def _check_callers(service: Node, services: Mapping[str, Node], problems: Problems) -> None:
    for caller in service.get("allow").items:
        name = caller.text
        if name != "*" and name not in services and name not in RESERVED_NAMES:
            hint = did_you_mean(name, list(services))
            problems.warn(caller, f"names {name}, which is no service of this catalog{hint}")


def _upstreams(service: Node) -> list[tuple[Node, str, int | None]]:
    """Place, service and port of each upstream."""
    upstreams = []
    for place in service.get("upstreams").items:
        target = place.mapping.get("service", place)
        port = place.get("port").value
        if isinstance(target.value, str):
            upstreams.append((place, target.value, port if isinstance(port, int) else None))
    return upstreams


def _check_upstreams(name: str, service: Node, services: Mapping[str, Node], problems: Problems) -> None:
    earlier: set[str] = set()
    for place, target, _ in _upstreams(service):
        if target not in services:
            hint = did_you_mean(target, list(services)) or "; add it, or remove it here"
            problems.add(place, f"names {target}, which is no service of this catalog{hint}")
        elif target == name:
            problems.add(place, "is the service itself; remove it")
        elif target in earlier:
            problems.add(place, f"names {target} twice; keep one")
        elif not {name, "*"} & {caller.text for caller in services[target].get("allow").items}:
            problems.warn(place, f"gets 403 there: add {name} to `allow` of {target}")
        earlier.add(target)


def _check_ports(services: Mapping[str, Node], problems: Problems) -> None:
    owners: dict[int, str] = {}
    for name, service in services.items():
        instances = service.get("instances").value
        for place, target, port in _upstreams(service):
            if port is None:
                continue
            owner = owners.setdefault(port, f"{name}'s {target}")
            if owner != f"{name}'s {target}":
                problems.add(place, f"has the port {port}, which {owner} has; choose another, or leave it out")
            elif instances not in (None, 1):
                problems.add(place, "has a port of its own, which several instances cannot share; leave it out")
