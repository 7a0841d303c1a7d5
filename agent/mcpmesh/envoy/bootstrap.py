"""Envoy's bootstrap: Consul's own, with the few settings that Consul does not offer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from mcpmesh.errors import WorkloadError
from mcpmesh.kit.marked_process import base_environment
from mcpmesh.kit.packaged_files import resource_path

# `consul connect envoy -bootstrap` takes 0.1 s; this long means that Consul hangs.
_SECONDS = 15.0
_OWNER_ONLY = 0o600


@dataclass(frozen=True)
class ConsulAddress:
    """What `consul connect envoy` needs: the program, Consul's HTTP URL, and its xDS address "host:port"."""

    binary: Path
    http: str
    grpc: str
    token: SecretStr | None = None


async def render_bootstrap(consul: ConsulAddress, proxy_id: str, admin: int | Path, *, gateway: bool = False) -> str:
    """The bootstrap (JSON) of the proxy registered as `proxy_id`; raises WorkloadError with Consul's message.

    `admin` is a port of loopback, or the path of a socket.
    """
    argv = [str(consul.binary), "connect", "envoy", "-bootstrap", "-proxy-id", proxy_id]
    argv += ["-admin-bind", f"127.0.0.1:{admin if isinstance(admin, int) else 0}"]
    argv += ["-http-addr", consul.http, "-grpc-addr", consul.grpc]
    # Consul 1.22 lists Envoy up to 1.35; docs/decisions/0002 says what was tried beyond.
    argv += ["-ignore-envoy-compatibility"]
    if gateway:
        argv += ["-gateway", "api"]
    environment = base_environment()
    if consul.token is not None:
        environment["CONSUL_HTTP_TOKEN"] = consul.token.get_secret_value()
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), _SECONDS)
    except TimeoutError as error:
        raise WorkloadError(f"cannot bootstrap the Envoy of {proxy_id!r}: Consul did not answer in time") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise WorkloadError(f"cannot bootstrap the Envoy of {proxy_id!r}: {err.decode(errors='replace').strip()}")
    return json.dumps(with_runtime_layer(json.loads(out), None if isinstance(admin, int) else admin))


def with_runtime_layer(bootstrap: dict[str, Any], admin: Path | None = None) -> dict[str, Any]:
    """Adds our runtime layer: passive health checks, also for the API gateway.

    Consul offers them for sidecars only. Envoy takes the same numbers from
    its runtime (outlier_detection.* in the Envoy documentation).
    """
    layers = [*bootstrap.get("layered_runtime", {}).get("layers", [])]
    layers.append({"name": "mcpmesh", "static_layer": json.loads(resource_path("envoy/runtime.json").read_text())})
    # For the keys that are set while Envoy runs (`retry_budget`).
    layers.append({"name": "admin", "admin_layer": {}})
    found = {**bootstrap, "layered_runtime": {"layers": layers}}
    if admin is not None:
        # Consul's command has no option for a socket.
        found["admin"] = {**bootstrap["admin"], "address": {"pipe": {"path": str(admin), "mode": _OWNER_ONLY}}}
    return found


def retry_budget(clusters: Iterable[str]) -> dict[str, str]:
    """Runtime keys with which every call of these clusters can be retried.

    By default Envoy runs 3 retries at once for a cluster: when an instance dies
    under load, the fourth caller would fail (circuit breaking, max_retries).
    """
    return {f"circuit_breakers.{cluster}.default.max_retries": "1024" for cluster in clusters}
