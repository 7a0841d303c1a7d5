"""A call from the network namespace of an instance, as the instance calls its upstreams.

As a program it makes the call and prints what it saw as JSON. `call_from`
runs that program beside the instance's Envoy, where the Envoy has a network
namespace that is not ours.
"""

from __future__ import annotations

import asyncio
import json
import sys

import httpx

from mcpmesh.errors import MeshError, Unreachable
from mcpmesh.kit.marked_process import Process
from mcpmesh.mcp.mcp_client import Forbidden
from mcpmesh.verify.probes import service_calls
from mcpmesh.workload.runtime import Runtime


async def call_from(runtime: Runtime, envoy: Process, url: str, *, mcp: bool) -> str:
    """Calls `url` as `service_calls.list_tools` (with `mcp`) or `service_calls.get` do; raises as they do."""
    printed = await runtime.run_in_namespace_of(envoy, ["-m", __name__, url, "mcp" if mcp else "get"])
    try:
        result = json.loads(printed)
    except ValueError as error:
        raise Unreachable(f"cannot call {url} beside the Envoy: it printed {printed[:100]!r}") from error
    if "error" in result:
        raise (Forbidden if result["forbidden"] else Unreachable)(result["error"])
    return str(result["said"])


async def call_here(url: str, mcp: bool) -> dict[str, object]:
    """What the program prints: `said` is what the call saw; else the `error`, and whether it is `forbidden`."""
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            return {"said": await (service_calls.list_tools(http, url, None) if mcp else service_calls.get(http, url))}
        except MeshError as error:
            return {"error": str(error), "forbidden": isinstance(error, Forbidden)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(call_here(sys.argv[1], sys.argv[2] == "mcp"))))
