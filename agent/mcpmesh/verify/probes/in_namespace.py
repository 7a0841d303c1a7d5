"""A call made where an instance is, as its upstreams are called: from its network namespace.

As a program it makes the call and prints what it saw as JSON; `ask` has it run
beside an Envoy, where that has a namespace that is not ours.
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


async def ask(runtime: Runtime, envoy: Process, url: str, *, mcp: bool) -> str:
    """As `calls.tools` or `calls.get` there; raises as they do."""
    text = await runtime.run_in_namespace_of(envoy, ["-m", __name__, url, "mcp" if mcp else "get"])
    try:
        told = json.loads(text)
    except ValueError as error:
        raise Unreachable(f"cannot call {url} beside the Envoy: it printed {text[:100]!r}") from error
    if "error" in told:
        raise (Forbidden if told["forbidden"] else Unreachable)(told["error"])
    return str(told["said"])


async def _called(url: str, mcp: bool) -> dict[str, object]:
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            return {"said": await (service_calls.tools(http, url, None) if mcp else service_calls.get(http, url))}
        except MeshError as error:
            return {"error": str(error), "forbidden": isinstance(error, Forbidden)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_called(sys.argv[1], sys.argv[2] == "mcp"))))
