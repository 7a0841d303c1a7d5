"""What makes sense in one service only in the light of its other keys."""

from __future__ import annotations

import re

from mcpmesh.catalog.ecosystem import mesh_name
from mcpmesh.catalog.problems import Findings
from mcpmesh.catalog.schema import CommonKeys, ServiceKeys
from mcpmesh.catalog.syntax_tree import Node, nearest, one_of
from mcpmesh.model.service import NAME_PATTERN

RESERVED = ("ingress", "mcpmesh-agent", "mcpmesh-stranger", "consul")
STARTS = ("command", "image", "url", "http", "tcp")
# Consul names the sidecar of a service so.
_SIDECAR = "-sidecar-proxy"
_NEEDS = {"args": ("command", "image"), "isolation": ("command", "image"), "headers": ("url",)}
_OF_PROGRAMS = ("env", "cwd")


def starts(service: Node) -> list[str]:
    """Which of the ways to start are given."""
    return [key for key in STARTS if service.get(key).value is not None]


def is_launched(service: Node) -> bool:
    """Whether the mesh starts a program for it."""
    return bool({"command", "image"} & set(starts(service))) or any(
        "command" in service.get(key).mapping for key in ("http", "tcp")
    )


def applicable(defaults: Node, service: Node) -> Node:
    """Of the defaults, what means something to a service that starts as this one does."""
    ways = starts(service)
    keys = {key: node for key, node in defaults.mapping.items() if key in CommonKeys.model_fields}
    if not is_launched(service):
        keys = {key: node for key, node in keys.items() if key not in _OF_PROGRAMS}
        if "url" not in ways:
            keys.pop("instances", None)
    if not {"command", "image"} & set(ways):
        keys.pop("isolation", None)
    if "http" not in ways and "health" in keys:
        health = {key: node for key, node in keys["health"].mapping.items() if key != "path"}
        keys["health"] = keys["health"].with_value(health)
    return defaults.with_value(keys)


def check_name(name: str, service: Node, findings: Findings) -> None:
    """Names become Consul services, DNS labels and parts of URLs, and some are taken."""
    if not re.fullmatch(NAME_PATTERN, name):
        better = mesh_name(name)
        hint = f', such as "{better}"' if better else ""
        findings.refuse(service, f"needs a name of at most 63 lower-case letters, digits and -{hint}")
    elif name in RESERVED or name.endswith(_SIDECAR):
        findings.refuse(service, "has a name that the mesh uses itself; choose another")


def check_shape(service: Node, findings: Findings) -> None:
    """Exactly one way to start, and no key that belongs to another way."""
    ways = starts(service)
    misspelt = [key for key in service.mapping if key not in ServiceKeys.model_fields and not key.startswith("x-")]
    if not ways and not any(nearest(key, STARTS) for key in misspelt):
        findings.refuse(service, f"does not say how it starts; give it {one_of(STARTS)}")
    if len(ways) > 1:
        findings.refuse(service.mapping[ways[1]], f"stands beside {ways[0]}; keep one (null removes an earlier file's)")
    if len(ways) != 1:
        return
    launched = is_launched(service)
    for key, needed in _NEEDS.items():
        if key in service.mapping and not set(ways) & set(needed):
            inside = f"; put it into {ways[0]}" if key == "args" and ways[0] in ("http", "tcp") else "; remove it"
            findings.refuse(service.mapping[key], f"goes with {one_of(needed)}, and this service has {ways[0]}{inside}")
    for key in _OF_PROGRAMS:
        if key in service.mapping and not launched:
            findings.refuse(service.mapping[key], "goes with a program, and this service runs elsewhere; remove it")
    health = service.get("health")
    if "path" in health.mapping and ways != ["http"]:
        findings.refuse(health.mapping["path"], "goes with http; other services are asked in their own protocol")
    _check_listening(service, ways[0], findings)


def _check_listening(service: Node, way: str, findings: Findings) -> None:
    listening = service.mapping[way]
    if way not in ("http", "tcp"):
        return
    if isinstance(listening.value, dict) and len({"address", "command"} & listening.mapping.keys()) != 1:
        findings.refuse(listening, "needs either an address of something that runs, or a command that is launched")
    if "args" in listening.mapping and "command" not in listening.mapping:
        findings.refuse(listening.mapping["args"], "goes with command; remove it")
    env = service.get("env").mapping
    if "PORT" in env:
        findings.refuse(env["PORT"], "is set by the mesh for each instance; remove it and listen on it")
    route = service.get("route")
    if way == "tcp" and route.value not in (None, False):
        findings.refuse(route, "goes with HTTP; TCP services are reached inside the mesh alone")
    if way == "http" and route.value is True:
        findings.refuse(route, "has to be a path such as /api; only MCP servers have one by default")
    instances = service.get("instances")
    if instances.value not in (None, 1) and not is_launched(service):
        findings.refuse(instances, "goes with something that is launched; what runs at an address is one instance")
