"""A mesh "m" with two services and its parts, for the tests of claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from tests.support.snapshots import process as process_of
from tests.support.snapshots import target_of

from mcpmesh.kit.marked_process import Process
from mcpmesh.model.observed_state import Intention, Registration
from mcpmesh.model.service import Catalog, Plain, Protocol, ServiceSpec, Stdio
from mcpmesh.reconcile.desired_from_catalog import build_desired_state
from mcpmesh.verify.target import Target

FILES = ServiceSpec("files", Stdio("server"), allow=("git",), route="/mcp/files")
DATABASE = ServiceSpec("database", Plain(Protocol.TCP, address="127.0.0.1:5432"))
DESIRED = build_desired_state(
    Catalog({"files": FILES, "database": DATABASE}), "m", b"key", "ingress", "127.0.0.1", 8000
)
INSTANCE = DESIRED.services["files"].instances[0].id
DATABASE_INSTANCE = DESIRED.services["database"].instances[0].id
INGRESS = DESIRED.ingress_id
REPAIRS = (
    "the agent repairs this at its next pass unless it is paused (mcpmesh --name m resume); "
    "if it lasts, see /home/m/logs/agent.log"
)
AT_CONSUL = "-http-addr=http://127.0.0.1:8500"


def the_target(**ingress: Any) -> Target:
    """The mesh; `ingress` are settings of its ingress."""
    return target_of(DESIRED, **ingress)


def intention(source: str, destination: str, action: str = "allow", owner: str | None = None) -> Intention:
    """An intention; a user wrote it if it has no owner."""
    return Intention("", source, destination, action, owner)


def registration(id_: str, service: str = "files", port: int = 11101, **others: Any) -> Registration:
    """A registration with a sidecar at port 11102."""
    return Registration(
        **{
            "id": id_,
            "service": service,
            "port": port,
            "sidecar_port": 11102,
            "digest": "d" * 64,
            "draining": False,
            "passing": True,
            **others,
        }
    )


def process(pid: int, role: str, instance: str = INSTANCE, **ports: int) -> Process:
    """A process of an instance of "files"."""
    return process_of(pid, role, instance, **ports)


def http_that(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.AsyncClient:
    """A client for which `answer` gives each answer."""
    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def refuse_connection(request: httpx.Request) -> httpx.Response:
    """No answer at all."""
    raise httpx.ConnectError("refused")
