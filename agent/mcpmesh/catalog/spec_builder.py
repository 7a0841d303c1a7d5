"""Services of the model from keys that the schema has accepted.

A key that a class of the model has under the same name is carried over by that name. A key that a file does not give
is left out, so that the default in `model.service` applies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcpmesh.catalog.schema import Keys, ListeningKeys, ServiceKeys
from mcpmesh.catalog.syntax_tree import Node
from mcpmesh.catalog.values import resolve_path
from mcpmesh.model.service import (
    Health,
    Plain,
    Protocol,
    Remote,
    ServiceSpec,
    Stdio,
    Timeouts,
    Upstream,
    default_route,
)


def build_spec(name: str, keys: ServiceKeys, node: Node, environ: Mapping[str, str]) -> ServiceSpec:
    """The service; relative paths start from the folder of the file that has them, which `node` knows.

    The path of a program is absolute afterwards and not resolved: a virtual environment is known by the link through
    which its Python is called.
    """
    start = _start(keys, _working_directory(keys, node, environ), environ)
    return ServiceSpec(
        name=name,
        start=start,
        **_given(keys, ServiceSpec)
        | {
            "allow": tuple(dict.fromkeys(keys.allow or ())),
            "upstreams": tuple(Upstream(**_given(upstream, Upstream)) for upstream in keys.upstreams or ()),
            "route": _route(name, keys, is_mcp=not isinstance(start, Plain)),
            "timeouts": Timeouts(**_given(keys.timeouts, Timeouts)),
            "health": Health(**_given(keys.health, Health)),
        },
    )


def _given(keys: Keys | None, target: type) -> dict[str, Any]:
    """The values that a file gives for those keys that are fields of the dataclass `target`; lists become tuples."""
    values = {field.name: getattr(keys, field.name, None) for field in dataclasses.fields(target) if keys is not None}
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if value is not None
    }


def _route(name: str, keys: ServiceKeys, *, is_mcp: bool) -> str | None:
    if isinstance(keys.route, str):
        return keys.route
    return default_route(name) if is_mcp and keys.route is not False else None


def _start(keys: ServiceKeys, cwd: Path, environ: Mapping[str, str]) -> Stdio | Remote | Plain:
    if keys.command:
        program = _program(keys.command, keys.args, cwd, environ)
        return Stdio(**_given(keys, Stdio) | program | {"cwd": cwd})
    if keys.image:
        return Stdio(**_given(keys, Stdio) | {"command": "", "cwd": cwd})
    if keys.url:
        return Remote(**_given(keys, Remote))
    listening = keys.http or keys.tcp or ListeningKeys(address=None, command=None, args=None)
    protocol = Protocol.HTTP if keys.http else Protocol.TCP
    if not listening.command:
        return Plain(protocol=protocol, address=listening.address, cwd=cwd)
    program = _program(listening.command, listening.args, cwd, environ)
    return Plain(protocol=protocol, **_given(keys, Plain) | program | {"cwd": cwd})


def _working_directory(keys: ServiceKeys, node: Node, environ: Mapping[str, str]) -> Path:
    return resolve_path(node.mapping["cwd"], keys.cwd, environ) if keys.cwd else node.folder


def _program(words: list[str], args: list[str] | None, cwd: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """`command` and `args` of a program."""
    command = words[0]
    if command.startswith("~/"):
        command = str(Path(environ.get("HOME", "/")) / command[2:])
    elif "/" in command:
        command = str(cwd / command)
    return {"command": command, "args": (*words[1:], *(args or ()))}
