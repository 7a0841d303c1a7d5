"""One instance of a service: its id, and the digest of what it was started with."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass

from mcpmesh.model.service import Plain, Remote, ServiceSpec, Stdio

# Hex digits of the digest in an id: enough to distinguish two specs of one service.
_SHORT = 8


@dataclass(frozen=True)
class Instance:
    """Instance number `ordinal` (from 1) of a service whose spec has this digest."""

    mesh: str
    service: str
    ordinal: int
    digest: str

    @property
    def id(self) -> str:
        """The id of the instance in Consul, in logs and in marks."""
        return f"{self.mesh}-{self.service}-{self.ordinal}-{self.digest[:_SHORT]}"

    @property
    def sidecar_id(self) -> str:
        """The id of its sidecar in Consul."""
        return sidecar_id(self.id)


def sidecar_id(instance_id: str) -> str:
    """The id in Consul of the sidecar of an instance, or of the ingress."""
    return f"{instance_id}-sidecar"


def workload_digest(spec: ServiceSpec, key: bytes) -> str:
    """A digest of all that a running instance depends on; when it changes, the instance is replaced.

    It is an HMAC with the mesh's own secret: the environment is part of it,
    and everybody who reads Consul reads the digest.
    """
    start = spec.start
    parts: dict[str, object] = {"kind": type(start).__name__}
    if isinstance(start, Stdio):
        parts |= {"isolation": start.isolation, "image": start.image, "egress": spec.egress}
    if isinstance(start, Stdio | Plain):
        parts |= {"command": start.command, "args": start.args, "cwd": str(start.cwd)}
        parts["env"] = {name: value.get_secret_value() for name, value in start.env.items()}
        # Their ports are in its environment.
        parts["upstreams"] = [[upstream.service, upstream.port] for upstream in spec.upstreams]
    if isinstance(start, Stdio | Remote):
        # The shim gets them at its start.
        parts["timeouts"] = [spec.timeouts.start, spec.timeouts.request, spec.timeouts.drain]
    if isinstance(start, Plain):
        parts |= {"address": start.address, "protocol": start.protocol}
    if isinstance(start, Remote):
        parts["url"] = start.url
        parts["headers"] = {name: value.get_secret_value() for name, value in start.headers.items()}
    return hmac.new(key, canonical(parts), hashlib.sha256).hexdigest()


def canonical(value: Mapping[str, object]) -> bytes:
    """The same bytes for equal values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()


def instances(spec: ServiceSpec, mesh: str, key: bytes) -> tuple[Instance, ...]:
    """The instances that the catalog wants; a plain service at an address has exactly one."""
    digest = workload_digest(spec, key)
    at_address = isinstance(spec.start, Plain) and spec.start.address is not None
    count = 1 if at_address else spec.instances
    return tuple(Instance(mesh, spec.name, ordinal, digest) for ordinal in range(1, count + 1))
