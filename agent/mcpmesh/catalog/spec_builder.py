"""From a checked service to the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mcpmesh.catalog.cross_references import default_route
from mcpmesh.catalog.schema import ListeningKeys, ServiceKeys
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.catalog.values import beside, folder
from mcpmesh.model.service import (
    Health,
    Isolation,
    Plain,
    Protocol,
    Remote,
    ServiceSpec,
    Stdio,
    Timeouts,
    Upstream,
)


def build(name: str, keys: ServiceKeys, node: Node, environ: Mapping[str, str]) -> ServiceSpec:
    """The service; `node` says which folder its relative paths start from.

    A program's path is absolute afterwards, and not resolved: a virtual
    environment is known by the link it is called through.
    """
    start = _start(keys, _cwd(keys, node, environ), environ)
    timeouts = keys.timeouts.model_dump(exclude_none=True) if keys.timeouts else {}
    health = keys.health.model_dump(exclude_none=True) if keys.health else {}
    route = default_route(name) if keys.route in (None, True) and not isinstance(start, Plain) else keys.route or None
    return ServiceSpec(
        name=name,
        start=start,
        instances=keys.instances or 1,
        tags=tuple(keys.tags or ()),
        allow=tuple(dict.fromkeys(keys.allow or ())),
        upstreams=tuple(Upstream(upstream.service, upstream.port) for upstream in keys.upstreams or ()),
        route=route if isinstance(route, str) else None,
        timeouts=Timeouts(**timeouts),
        health=Health(**health),
        balance=keys.balance or "least_request",
        egress=bool(keys.egress),
    )


def _start(keys: ServiceKeys, cwd: Path, environ: Mapping[str, str]) -> Stdio | Remote | Plain:
    env = keys.env or {}
    if keys.command:
        command, args = _program(keys.command, keys.args, cwd, environ)
        isolation = Isolation(keys.isolation or "session")
        return Stdio(command=command, args=args, env=env, cwd=cwd, isolation=isolation)
    if keys.image:
        isolation = Isolation(keys.isolation or "session")
        args = tuple(keys.args or ())
        return Stdio(command="", args=args, env=env, cwd=cwd, isolation=isolation, image=keys.image)
    if keys.url:
        return Remote(url=keys.url, headers=keys.headers or {})
    listening = keys.http or keys.tcp or ListeningKeys(address=None, command=None, args=None)
    protocol = Protocol.HTTP if keys.http else Protocol.TCP
    if not listening.command:
        return Plain(protocol=protocol, address=listening.address, cwd=cwd)
    command, args = _program(listening.command, listening.args, cwd, environ)
    return Plain(protocol=protocol, command=command, args=args, env=env, cwd=cwd)


def _cwd(keys: ServiceKeys, node: Node, environ: Mapping[str, str]) -> Path:
    return beside(node.mapping["cwd"], keys.cwd, environ) if keys.cwd else folder(node)


def _program(
    words: list[str], args: list[str] | None, cwd: Path, environ: Mapping[str, str]
) -> tuple[str, tuple[str, ...]]:
    command = words[0]
    if command.startswith("~/"):
        command = str(Path(environ.get("HOME", "/")) / command[2:])
    elif "/" in command:
        command = str(cwd / command)
    return command, (*words[1:], *(args or ()))
