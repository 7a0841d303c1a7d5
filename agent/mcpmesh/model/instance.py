"""One instance of a service and the names that follow from it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass

from mcpmesh.model.service import Plain, Remote, ServiceSpec, Stdio

# Enough of the digest to tell two specs of one service apart.
_SHORT = 8


@dataclass(frozen=True)
class Instance:
    """The `ordinal`-th (from 1) instance of a service as described by `digest`."""

    mesh: str
    service: str
    ordinal: int
    digest: str

    @property
    def id(self) -> str:
        """Its name in Consul, in logs and in marks."""
        return f"{self.mesh}-{self.service}-{self.ordinal}-{self.digest[:_SHORT]}"

    @property
    def sidecar_id(self) -> str:
        """The name of its sidecar in Consul."""
        return f"{self.id}-sidecar"


def workload_digest(spec: ServiceSpec, key: bytes) -> str:
    """A digest of all that a running instance depends on; another digest means another process.

    Keyed with the mesh's own secret, since the environment is part of it and
    the digest is readable by everybody who reads Consul.
    """
    start = spec.start
    parts: dict[str, object] = {"kind": type(start).__name__}
    if isinstance(start, Stdio):
        parts |= {"isolation": start.isolation, "image": start.image, "egress": spec.egress}
    if isinstance(start, Stdio | Plain):
        parts |= {"command": start.command, "args": start.args, "cwd": str(start.cwd)}
        parts["env"] = {name: value.get_secret_value() for name, value in start.env.items()}
        # Their ports are part of its environment.
        parts["upstreams"] = [[upstream.service, upstream.port] for upstream in spec.upstreams]
    if isinstance(start, Stdio | Remote):
        # Its shim was told them when it started.
        parts["timeouts"] = [spec.timeouts.start, spec.timeouts.request, spec.timeouts.drain]
    if isinstance(start, Plain):
        parts |= {"address": start.address, "protocol": start.protocol}
    if isinstance(start, Remote):
        parts["url"] = start.url
        parts["headers"] = {name: value.get_secret_value() for name, value in start.headers.items()}
    return hmac.new(key, canonical(parts), hashlib.sha256).hexdigest()


def canonical(value: Mapping[str, object]) -> bytes:
    """One byte string for equal values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()


def instances(spec: ServiceSpec, mesh: str, key: bytes) -> tuple[Instance, ...]:
    """The instances that the catalog wants; a plain service that runs elsewhere has just one."""
    digest = workload_digest(spec, key)
    elsewhere = isinstance(spec.start, Plain) and spec.start.address is not None
    count = 1 if elsewhere else spec.instances
    return tuple(Instance(mesh, spec.name, ordinal, digest) for ordinal in range(1, count + 1))
