"""Envoy's first configuration: Consul's own, with the few settings that Consul has no words for."""

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
from mcpmesh.kit.resources import resource_path

# `consul connect envoy -bootstrap` takes 0.1 s; this long means that Consul hangs.
_SECONDS = 15.0
_OWNER_ONLY = 0o600


@dataclass(frozen=True)
class ConsulAddress:
    """Where `consul connect envoy` finds its Consul: the program, HTTP URL and xDS "host:port"."""

    binary: Path
    http: str
    grpc: str
    token: SecretStr | None = None


async def render(consul: ConsulAddress, proxy_id: str, admin: int | Path, *, gateway: bool = False) -> str:
    """The bootstrap (JSON) of the proxy registered as `proxy_id`; raises WorkloadError with Consul's words.

    Its admin address is a port of loopback, or a socket.
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
    return json.dumps(tuned(json.loads(out), None if isinstance(admin, int) else admin))


def tuned(bootstrap: dict[str, Any], admin: Path | None = None) -> dict[str, Any]:
    """Adds our runtime layer: passive health checks that work on the API gateway too.

    Consul offers them for sidecars alone; Envoy takes the same numbers from
    its runtime (outlier_detection.* of the Envoy documentation).
    """
    layers = [*bootstrap.get("layered_runtime", {}).get("layers", [])]
    layers.append({"name": "mcpmesh", "static_layer": json.loads(resource_path("envoy/runtime.json").read_text())})
    # What `allow_retries` sets while Envoy runs.
    layers.append({"name": "admin", "admin_layer": {}})
    whole = {**bootstrap, "layered_runtime": {"layers": layers}}
    if admin is not None:
        # Consul's command has no word for it.
        whole["admin"] = {**bootstrap["admin"], "address": {"pipe": {"path": str(admin), "mode": _OWNER_ONLY}}}
    return whole


def retry_budget(clusters: Iterable[str]) -> dict[str, str]:
    """Runtime keys that let every waiting call of these clusters be retried.

    Envoy allows 3 retries at once for a cluster by default, so that an instance
    that dies under load would fail the fourth caller (circuit breaking, max_retries).
    """
    return {f"circuit_breakers.{cluster}.default.max_retries": "1024" for cluster in clusters}
