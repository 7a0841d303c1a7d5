"""Calls from the host to the published ingress of a composed mesh, also during faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from tests.e2e.composed import Composed, docker, until
from tests.integration.mesh.traffic import call, modern

TOOLS = {"files": ("list_directory", {"path": "."}), "time": ("get_current_time", {"timezone": "UTC"})}


def lists_files(mesh: Composed) -> bool:
    """Whether a call from the host through the ingress is answered."""
    return "hello.md" in json.dumps(call(f"{mesh.ingress}/mcp/files", *TOOLS["files"]))


def status_of_call(mesh: Composed, service: str = "files", **more: str) -> int:
    """The status of a call with `more` headers; 0 without an answer."""
    headers, body = modern(*TOOLS[service])
    try:
        return httpx.post(
            f"{mesh.ingress}/mcp/{service}", headers={**headers, **more}, json=body, trust_env=False, timeout=60
        ).status_code
    except httpx.TransportError:
        return 0


def every_claim_holds(mesh: Composed, *services: str) -> None:
    """Returns when every claim of `verify` holds; on a stalled machine some fail for a while."""
    until(lambda: ", 0 failed" in mesh.mcpmesh("verify", *services), "claims that all hold")


def denied_and_allowed(mesh: Composed) -> None:
    """A denying intention made with `consul intention` refuses calls, until it is deleted."""
    mesh.consul("intention", "create", "-replace", "-deny", "ingress", "files")
    try:
        until(lambda: status_of_call(mesh) == 403, "a denied call")
    finally:
        mesh.consul("intention", "delete", "ingress", "files")
    until(lambda: status_of_call(mesh) == 200, "an allowed call")


def restarted_ingress_leads_again(mesh: Composed) -> None:
    """After a restart of the ingress's container calls are answered, and no server was touched."""
    before = {name: id_ for name, id_ in mesh.ids().items() if "ingress" not in name}
    mesh.compose("restart", mesh.ingress_container)
    until(lambda: status_of_call(mesh) == 200, "a call through it")
    until(mesh.settled, "a mesh that is whole")
    assert {name: id_ for name, id_ in mesh.ids().items() if "ingress" not in name} == before


@contextmanager
def calls_without_a_fault(mesh: Composed) -> Iterator[None]:
    """Calls `files` within the block; every call has to be answered."""
    over, faults = threading.Event(), []
    count = 0

    def work() -> None:
        nonlocal count
        while not over.is_set():
            try:
                assert lists_files(mesh)
                count += 1
            except (AssertionError, httpx.HTTPError) as error:
                faults.append(repr(error))
            over.wait(0.1)

    thread = threading.Thread(target=work, name="calls")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(120)
    assert (faults, count > 0) == ([], True)


def kill(mesh: Composed, role: str, service: str) -> str:
    """Kills the first container; returns its name once another one replaced it and all services are ready."""
    name, *_ = mesh.containers(role, service)
    before = mesh.ids()[name]
    docker("kill", name)
    until(lambda: mesh.ids().get(name, before) != before and mesh.settled(), f"{name} again")
    return name
