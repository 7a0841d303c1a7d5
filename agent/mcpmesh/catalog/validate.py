"""Rules about the name and the keys of one service, beyond the type of each key."""

from __future__ import annotations

import re

from mcpmesh.catalog.problems import Problems, did_you_mean, one_of
from mcpmesh.catalog.schema import EXTENSION_PREFIX, AppliesTo, CommonKeys, ServiceKeys, marked
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.model.reserved_names import is_reserved
from mcpmesh.model.service import NAME_PATTERN, service_name

# The keys that say how a service starts. Each service has exactly one.
START_KEYS = ("command", "image", "url", "http", "tcp")
_STDIO_STARTS = ("command", "image")
_LISTENING_STARTS = ("http", "tcp")
_STARTS_OF = {AppliesTo.STDIO: _STDIO_STARTS, AppliesTo.REMOTE: ("url",)}


def start_keys(service: Node) -> list[str]:
    """The start keys that the service has."""
    return [key for key in START_KEYS if service.get(key).value is not None]


def is_launched(service: Node) -> bool:
    """Whether the mesh starts a program for the service."""
    return _has_start(service, _STDIO_STARTS) or any("command" in service.get(key).mapping for key in _LISTENING_STARTS)


def is_mcp_server(service: Node) -> bool:
    """Whether the service is an MCP server, and so has a route by default."""
    return _has_start(service, (*_STDIO_STARTS, "url"))


def applicable_defaults(defaults: Node, service: Node) -> Node:
    """The `defaults` without the keys that do not apply to a service that starts as this one does."""
    keys = {
        key: node for key, node in defaults.mapping.items() if key in CommonKeys.model_fields and _applies(key, service)
    }
    if not is_launched(service) and not _has_start(service, ("url",)):
        keys.pop("instances", None)
    if "health" in keys and not _has_start(service, ("http",)):
        health = {key: node for key, node in keys["health"].mapping.items() if key != "path"}
        keys["health"] = keys["health"].with_value(health)
    return defaults.with_value(keys)


def check_name(name: str, service: Node, problems: Problems) -> None:
    """The name can stand in Consul, in DNS and in URLs, and the mesh does not use it itself."""
    if not re.fullmatch(NAME_PATTERN, name):
        suggestion = service_name(name)
        hint = f', such as "{suggestion}"' if suggestion else ""
        problems.add(service, f"needs a name of at most 63 lower-case letters, digits and -{hint}")
    elif is_reserved(name):
        problems.add(service, "has a name that the mesh uses itself; choose another")


def check_shape(service: Node, problems: Problems) -> None:
    """The service has exactly one start key, and no key that does not apply to it."""
    starts = start_keys(service)
    if not starts and not _has_misspelt_start(service):
        problems.add(service, f"does not say how it starts; give it {one_of(START_KEYS)}")
    if len(starts) > 1:
        other = service.mapping[starts[1]]
        problems.add(other, f"cannot stand beside {starts[0]}; keep one (null removes an earlier file's)")
    if len(starts) != 1:
        return
    [start] = starts
    _check_applicable(service, start, problems)
    health = service.get("health")
    if "path" in health.mapping and start != "http":
        problems.add(health.mapping["path"], "applies to http alone; other services are checked in their own protocol")
    if start in _LISTENING_STARTS:
        _check_listening(service, start, problems)


def _has_start(service: Node, keys: tuple[str, ...]) -> bool:
    return bool(set(keys) & set(start_keys(service)))


def _has_misspelt_start(service: Node) -> bool:
    """Whether a key that looks like a start key is reported as unknown already."""
    unknown = [key for key in service.mapping if key not in ServiceKeys.model_fields]
    return any(did_you_mean(key, START_KEYS) for key in unknown if not key.startswith(EXTENSION_PREFIX))


def _applies(key: str, service: Node) -> bool:
    scope = marked(AppliesTo).get(key)
    if scope is AppliesTo.PROGRAM:
        return is_launched(service)
    return scope is None or _has_start(service, _STARTS_OF[scope])


def _check_applicable(service: Node, start: str, problems: Problems) -> None:
    for key, scope in marked(AppliesTo).items():
        if key not in service.mapping or _applies(key, service):
            continue
        if scope is AppliesTo.PROGRAM:
            message = "applies to a program, and this service runs elsewhere; remove it"
        else:
            listening = key == "args" and start in _LISTENING_STARTS
            step = f"put it into {start}" if listening else "remove it"
            message = f"applies to {one_of(_STARTS_OF[scope])}, and this service has {start}; {step}"
        problems.add(service.mapping[key], message)


def _check_listening(service: Node, start: str, problems: Problems) -> None:
    listening = service.mapping[start]
    if isinstance(listening.value, dict) and len({"address", "command"} & listening.mapping.keys()) != 1:
        problems.add(listening, "needs either an address where it runs already, or a command that is launched")
    if "args" in listening.mapping and "command" not in listening.mapping:
        problems.add(listening.mapping["args"], "applies to command; remove it")
    environment = service.get("env").mapping
    if "PORT" in environment:
        problems.add(environment["PORT"], "is set by the mesh for each instance; remove it and listen on that port")
    route = service.get("route")
    if start == "tcp" and route.value not in (None, False):
        problems.add(route, "applies to HTTP; TCP services are reached inside the mesh alone")
    if start == "http" and route.value is True:
        problems.add(route, "has to be a path such as /api; only MCP servers have one by default")
    instances = service.get("instances")
    if instances.value not in (None, 1) and not is_launched(service):
        problems.add(instances, "applies to a program that is launched; a service at an address is one instance")
