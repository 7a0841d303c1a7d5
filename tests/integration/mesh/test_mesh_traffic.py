"""What a client meets at the ingress: both eras, sessions, streams, services that are no MCP servers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from mcp import Client
from tests.integration.mesh.traffic import ACCEPT, Session, load, modern
from tests.support.mesh import RealMesh, wait_for, write

MODES = ["auto", "legacy", "2026-07-28"]
# Envoy's default for a whole call; every one of our calls may take longer.
ENVOY_CUTS_AFTER = 15.0
# What was said bit by bit in ten seconds and more arrives so far apart, unless it comes in one piece. A reader that
# stands still at the beginning finds the first of it together.
SPREAD_SECONDS = 1.0
# Each is a process or two.
MOST_SESSIONS = 20


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("service", ["everything", "remote", "clock"])
async def test_the_official_client_lists_and_calls_through_the_ingress(mesh: RealMesh, service: str, mode: str) -> None:
    tool, arguments, answer = {
        "clock": ("convert_time", {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}, "21:00")
    }.get(service, ("echo", {"message": "hello"}, "hello"))
    async with Client(f"{mesh.ingress}/mcp/{service}", mode=mode) as client:
        assert tool in {found.name for found in (await client.list_tools()).tools}
        assert answer in str((await client.call_tool(tool, arguments)).content)


def test_both_instances_get_calls(mesh: RealMesh) -> None:
    with load(f"{mesh.ingress}/mcp/everything") as calls:
        calls.wait_for_answers(200)
        ports = [instance["port"] for instance in mesh.service("everything")["instances"]]
        assert len(ports) == 2
        # One that stands still for some seconds gets few of the first.
        wait_for("both get calls", lambda: all(calls_of(port) > 20 for port in ports))
    assert calls.failed == []


def calls_of(shim_port: int) -> float:
    """Calls of tools that a shim counted."""
    text = httpx.get(f"http://127.0.0.1:{shim_port}/metrics", trust_env=False, timeout=30).text
    counted = re.findall(r"^mcpmesh_shim_calls_total\{([^}]*)\} (\S+)$", text, re.MULTILINE)
    return sum(float(number) for labels, number in counted if 'method="tools/call"' in labels)


@contextmanager
def sessions_on_both(url: str) -> Iterator[list[Session]]:
    """Sessions that were opened on two instances, at least one on each."""
    with ExitStack() as opened:
        sessions: list[Session] = []

        def on_both() -> bool:
            # The balancer may choose the same instance several times running, and one that stands still not at all.
            session = opened.enter_context(Session(url))
            if len(sessions) >= MOST_SESSIONS and session.owner == sessions[0].owner:
                session.delete()
            else:
                sessions.append(session)
            return len({session.owner for session in sessions}) == 2

        if not on_both():
            wait_for("sessions were opened on both instances", on_both)
        yield sessions


@pytest.mark.parametrize("way", ["mcp/everything", "web/via/everything/mcp"])
def test_a_session_stays_on_the_instance_that_opened_it(mesh: RealMesh, way: str) -> None:
    """At the ingress, and through the sidecar of a service that calls it as its upstream."""
    with sessions_on_both(f"{mesh.ingress}/{way}") as sessions:
        for number in range(12):
            for session in sessions:
                answer = session.call("echo", {"message": f"{number} of {session.id}"})
                assert answer.status_code == 200, f"HTTP {answer.status_code}: {answer.text}"
                assert f"{number} of {session.id}" in answer.text


def test_a_session_that_ended_is_not_found(mesh: RealMesh) -> None:
    with Session(f"{mesh.ingress}/mcp/everything") as session:
        assert session.call("echo", {"message": "hello"}).status_code == 200
        assert session.delete().is_success
        assert session.call("echo", {"message": "hello"}).status_code == 404


def test_a_session_nobody_opened_is_not_found(mesh: RealMesh) -> None:
    with Session(f"{mesh.ingress}/mcp/everything") as session:
        mine, session.id = session.id, session.id.replace(session.id[:4], "beef", 1)
        assert session.call("echo", {"message": "hello"}).status_code == 404
        session.id = mine
        assert session.call("echo", {"message": "hello"}).status_code == 200


def test_a_long_call_arrives_event_by_event_in_both_eras(mesh: RealMesh) -> None:
    with Session(f"{mesh.ingress}/mcp/everything") as session, ThreadPoolExecutor() as beside:
        tool, arguments = "trigger-long-running-operation", {"duration": 21, "steps": 7}
        headers, body = modern(tool, arguments)
        body["params"]["_meta"]["progressToken"] = "mine"
        old_headers = {**ACCEPT, "Mcp-Session-Id": session.id, "MCP-Protocol-Version": "2025-11-25"}
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": "mine"}}
        old_body = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params}
        streams = [
            beside.submit(events_of, session.url, headers, body),
            beside.submit(events_of, session.url, old_headers, old_body),
        ]
        for stream in streams:
            arrived = stream.result()
            progress = [moment for moment, line in arrived if '"notifications/progress"' in line]
            assert len(progress) == 7
            assert '"result"' in arrived[-1][1]
            assert arrived[-1][0] > ENVOY_CUTS_AFTER
            assert progress[-1] - progress[0] > SPREAD_SECONDS


def events_of(url: str, headers: dict[str, str], body: dict[str, Any]) -> list[tuple[float, str]]:
    """The lines of an event stream that say something, and when each came, in seconds."""
    began = time.monotonic()
    with httpx.stream("POST", url, headers=headers, json=body, timeout=60, trust_env=False) as answer:
        return [
            (time.monotonic() - began, line)
            for line in answer.iter_lines()
            if line.startswith("data:") and line[5:].strip()
        ]


def test_an_undeclared_path_is_not_found(mesh: RealMesh) -> None:
    for path in ("/", "/mcp", "/mcp/nobody", "/mcp/everythingelse", "/base"):
        assert httpx.get(f"{mesh.ingress}{path}", trust_env=False, timeout=30).status_code == 404, path


def test_plain_services_are_reached_at_their_paths(mesh: RealMesh) -> None:
    web = httpx.get(f"{mesh.ingress}/web/a?b=c", trust_env=False, timeout=30).json()
    assert web["path"] == "/a?b=c"
    assert web["pid"] in mesh.pids("plain", "web")
    assert httpx.get(f"{mesh.ingress}/elsewhere/x", trust_env=False, timeout=30).json()["path"] == "/x"


def test_a_tcp_service_is_reached_with_an_intention_alone(mesh: RealMesh) -> None:
    catalog = mesh.catalog.read_text()

    def through() -> tuple[int, bytes]:
        answer = httpx.get(f"{mesh.ingress}/web/tcp/base", trust_env=False, timeout=30)
        return answer.status_code, answer.content

    assert through()[0] == 502
    write(mesh.catalog, catalog.replace("  base:\n", "  base:\n    allow: [web]\n"))
    try:
        wait_for("base allows web", lambda: through() == (200, b"HELLO\n"))
    finally:
        write(mesh.catalog, catalog)
    wait_for("base allows nobody again", lambda: through()[0] == 502)


def test_no_envoy_has_rejected_an_update(mesh: RealMesh) -> None:
    for process in [*mesh.processes("sidecar"), *mesh.processes("gateway")]:
        url = f"http://127.0.0.1:{process.mark.ports['admin']}/stats?filter=update_rejected&format=json"
        stats: list[dict[str, Any]] = httpx.get(url, trust_env=False, timeout=30).json()["stats"]
        assert {stat["name"]: stat["value"] for stat in stats if stat.get("value")} == {}, process.mark.instance
        assert any(stat["name"] == "cluster_manager.cds.update_rejected" for stat in stats)


def test_verify_finds_every_claim_true(mesh: RealMesh) -> None:
    assert {claim["service"] for claim in mesh.claims()} >= {
        "everything",
        "clock",
        "remote",
        "web",
        "elsewhere",
        "base",
    }
