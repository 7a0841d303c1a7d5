"""The claim that an instance reaches its upstreams, and calls from its network namespace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from tests.support.ports import OWN_PORTS
from tests.support.snapshots import snapshot_of
from tests.unit.verify.sample_mesh import (
    DATABASE_INSTANCE,
    DESIRED,
    INSTANCE,
    REPAIRS,
    http_that,
    intention,
    process,
    the_target,
)

from mcpmesh.errors import Unreachable
from mcpmesh.kit.marked_process import Process
from mcpmesh.mcp.mcp_client import Forbidden
from mcpmesh.model.service import Upstream
from mcpmesh.settings import Settings
from mcpmesh.verify.claims.sidecar_calls import upstream_is_answered
from mcpmesh.verify.finding import Finding, fails, holds
from mcpmesh.verify.probes.call_in_namespace import call_from, call_here
from mcpmesh.verify.probes.listening_sockets import Listener, ListeningSockets
from mcpmesh.verify.probes.network_namespaces import Namespaces
from mcpmesh.verify.probes.process_tree import Node, ProcessTree
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.workload.containers.container_runtime import ContainerRuntime

PROGRAM, ENVOY = 7, 8
TREE = ProcessTree({PROGRAM: Node(1, "program", "S"), ENVOY: Node(1, "envoy", "S")})
TOOLS = {"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "read"}]}}


def snapshot(
    instance: str, upstream: str, port: int, *, holder: int = ENVOY, http: httpx.AsyncClient | None = None
) -> Snapshot:
    """An instance finds its upstream at this port, which the process `holder` holds."""
    role = "shim" if instance == INSTANCE else "plain"
    return snapshot_of(
        the_target(),
        [process(PROGRAM, role, instance, **{f"upstream:{upstream}": port}), process(ENVOY, "sidecar", instance)],
        Namespaces(
            TREE,
            ListeningSockets((Listener("tcp", ip_address("127.0.0.1"), port, 1),), {1: frozenset({holder})}),
        ),
        http=http,
        intentions=(intention("database", "files"), intention("files", "database")),
    )


async def upstream_of_database(read: Snapshot) -> list[Finding]:
    return await upstream_is_answered(read, DESIRED.services["database"], Upstream("files"))


async def test_an_mcp_upstream_answers_with_its_tools() -> None:
    async with http_that(lambda _: httpx.Response(200, json=TOOLS)) as http:
        assert await upstream_of_database(snapshot(DATABASE_INSTANCE, "files", 11105, http=http)) == [
            holds(f"tools/list gives 1 tool at 127.0.0.1:11105, as {DATABASE_INSTANCE} finds it")
        ]


async def test_a_refused_upstream_fails() -> None:
    async with http_that(lambda _: httpx.Response(403, text="RBAC: access denied")) as http:
        (finding,) = await upstream_of_database(snapshot(DATABASE_INSTANCE, "files", 11105, http=http))
    assert not finding.ok and finding.evidence.endswith(", though Consul has database => files (allow)")


async def test_only_the_instances_own_sidecar_holds_the_port_of_an_upstream() -> None:
    (finding,) = await upstream_of_database(snapshot(DATABASE_INSTANCE, "files", 11105, holder=PROGRAM))
    assert not finding.ok
    assert finding.evidence.startswith(f"port 11105 of {DATABASE_INSTANCE} is held by pid 7 (program)")


async def test_without_a_program_no_upstream_is_looked_for() -> None:
    assert await upstream_of_database(snapshot_of(the_target())) == [
        fails(f"no process of ours runs for {DATABASE_INSTANCE}", REPAIRS)
    ]


@asynccontextmanager
async def tcp_server(*, closes: bool) -> AsyncIterator[int]:
    """A server that holds its connections, or closes them at once."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not closes:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("closes", [False, True])
async def test_a_tcp_upstream_keeps_its_connection_open(closes: bool) -> None:
    async with tcp_server(closes=closes) as port:
        (finding,) = await upstream_is_answered(
            snapshot(INSTANCE, "database", port), DESIRED.services["files"], Upstream("database")
        )
    if closes:
        assert not finding.ok
        assert finding.evidence.startswith(f"127.0.0.1:{port}: the connection was closed; its Envoy is pid 8")
    else:
        assert finding == holds(f"a connection opens and stays open at 127.0.0.1:{port}, as {INSTANCE} finds it")


# --- in a network namespace


class Printing(ContainerRuntime):
    """A runtime in which every program prints this."""

    def __init__(self, printed: str) -> None:
        super().__init__(Settings(runtime="containers"), "m", Path("/home/m"))
        self.printed, self.arguments = printed, list[str]()

    async def run_in_namespace_of(self, envoy: Process, arguments: Sequence[str]) -> str:
        self.arguments = list(arguments)
        return self.printed


async def test_a_call_from_a_namespace_returns_what_the_program_saw() -> None:
    runtime = Printing(json.dumps({"said": "tools/list gives 1 tool"}))
    read = snapshot(DATABASE_INSTANCE, "files", 11105)
    inside = replace(
        read,
        target=replace(read.target, runtime=runtime),
        namespaces=Namespaces(TREE, None, {DATABASE_INSTANCE: read.host_sockets}),
    )
    assert await upstream_of_database(inside) == [
        holds(f"tools/list gives 1 tool at 127.0.0.1:11105, as {DATABASE_INSTANCE} finds it")
    ]
    assert runtime.arguments[1:] == ["mcpmesh.verify.probes.call_in_namespace", "http://127.0.0.1:11105/mcp", "mcp"]


@pytest.mark.parametrize(
    ("printed", "kind"),
    [
        ('{"error": "no", "forbidden": true}', Forbidden),
        ('{"error": "no", "forbidden": false}', Unreachable),
        ("", Unreachable),
    ],
)
async def test_a_call_from_a_namespace_raises_as_a_call_from_here(printed: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as raised:
        await call_from(Printing(printed), process(ENVOY, "sidecar"), "http://127.0.0.1:1", mcp=False)
    assert type(raised.value) is kind


@pytest.mark.parametrize("mcp", [True, False])
async def test_a_call_without_an_answer_is_printed_as_an_error(mcp: bool) -> None:
    printed = await call_here(f"http://127.0.0.1:{OWN_PORTS.take()}/", mcp)
    assert printed["forbidden"] is False and str(printed["error"]).startswith("cannot reach http://127.0.0.1:")
