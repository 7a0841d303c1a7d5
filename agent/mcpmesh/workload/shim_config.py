"""A shim's configuration, and the environment of the server behind it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import SecretStr

from mcpmesh.model.instance import Instance
from mcpmesh.model.service import Remote, ServiceSpec, Stdio


def shim_config(
    spec: ServiceSpec, instance: Instance, ports: Mapping[str, int], affinity: str, allowed_hosts: Collection[str]
) -> dict[str, Any]:
    """The shim's configuration (docs/shim.md), secrets in the clear.

    `affinity` is the address of its sidecar. Callers may name its host by one
    of `allowed_hosts`, beside loopback.
    """
    config: dict[str, Any] = {
        "name": spec.name,
        "instance": instance.id,
        "host": "127.0.0.1",
        "port": ports["http"],
        "affinity": affinity,
        "allowed_hosts": sorted(allowed_hosts),
        "start_seconds": spec.timeouts.start,
        "request_seconds": spec.timeouts.request,
        "drain_seconds": spec.timeouts.drain,
    }
    if isinstance(spec.start, Stdio):
        config |= {
            "command": spec.start.command,
            "args": list(spec.start.args),
            "env": {**revealed(spec.start.env), **upstream_environment(spec, ports)},
            "cwd": str(spec.start.cwd),
            "isolation": spec.start.isolation.value,
        }
    elif isinstance(spec.start, Remote):
        config |= {"url": spec.start.url, "headers": revealed(spec.start.headers)}
    return config


def revealed(values: Mapping[str, SecretStr]) -> dict[str, str]:
    """The values in the clear."""
    return {name: value.get_secret_value() for name, value in values.items()}


def upstream_environment(spec: ServiceSpec, ports: Mapping[str, int]) -> dict[str, str]:
    """The variables that tell a service the addresses of its upstreams."""
    return {
        f"MCPMESH_UPSTREAM_{upstream.service.upper().replace('-', '_')}": f"127.0.0.1:{ports[key]}"
        for upstream in spec.upstreams
        if (key := f"upstream:{upstream.service}") in ports
    }
