"""A whole mesh with a Kong that the agent runs: the real one where it is given, else the stand-in."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from tests.integration.mesh.test_mesh_traffic import SPREAD_SECONDS, events_of, sessions_on_both
from tests.integration.mesh.traffic import active, load, modern
from tests.support.kong.running import kong_program
from tests.support.mesh import (
    FAILED,
    INPUT,
    RealMesh,
    everything,
    python_program,
    real_mesh,
    the_time,
    wait_for,
    write,
)

from mcpmesh.kit.marked_process import Process
from mcpmesh.verify.probes import process_tree

KONG_D = "kong.d/mine.yml"
# So long that a regular pass can't be what a test waits for.
PASS_SECONDS = 3600
KEYS = """\
_format_version: "3.0"
consumers:
- username: ada
  keyauth_credentials:
  - key: sesame
plugins:
- name: key-auth
  service: clock
"""


@pytest.fixture(scope="module")
def kong_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMesh]:
    """Everything (two instances), clock and web, behind Kong."""
    folder = tmp_path_factory.mktemp("kong-mesh")
    (folder / "kong.d").mkdir()
    environment = {
        "MCPMESH_INGRESS__KIND": "kong",
        "MCPMESH_KONG__BINARY": str(kong_program(folder)),
        "MCPMESH_AGENT__PASS_SECONDS": str(PASS_SECONDS),
    }
    with real_mesh(folder, {"services": services()}, environment=environment) as running:
        running.up()
        running.wait_until_ready()
        yield running


def services() -> dict[str, Any]:
    return {
        "everything": everything(instances=2),
        "clock": the_time(),
        "web": {"http": {"command": python_program("web.py")}, "route": "/web", "health": {"path": "/"}},
    }


@pytest.fixture
def own_document(kong_mesh: RealMesh) -> Iterator[Path]:
    """The path of a user's document; after the test it is removed and out of force."""
    path = kong_mesh.folder / KONG_D
    yield path
    path.unlink(missing_ok=True)
    wait_for("our document alone", lambda: verified(kong_mesh, "Kong goes by our document"))
    kong_mesh.wait_until_ready()


def kong_of(mesh: RealMesh) -> Process:
    """The pid of the shell that keeps Kong's mark: the parent of Kong's other processes."""
    first = mesh.first("kong")
    assert first, "no Kong runs"
    return first[0]


def master_of(mesh: RealMesh) -> int:
    return int((mesh.home / "kong" / "pids" / "nginx.pid").read_text())


def admin_of(mesh: RealMesh) -> str:
    return f"http://127.0.0.1:{kong_of(mesh).mark.ports['admin']}"


def hash_of(mesh: RealMesh) -> str:
    return str(httpx.get(f"{admin_of(mesh)}/status", trust_env=False, timeout=30).json()["configuration_hash"])


def verified(mesh: RealMesh, claim: str) -> bool:
    *claims, _ = mesh.lines("verify", code=None)
    return any(found["claim"] == claim and found["ok"] for found in claims)


def status_of(mesh: RealMesh, path: str, **headers: str) -> int:
    """The HTTP status of a call of the clock's tools, or of a GET elsewhere."""
    if path.startswith("/mcp"):
        mine, body = modern("get_current_time", {"timezone": "UTC"})
        url = f"{mesh.ingress}{path}"
        return httpx.post(url, headers={**mine, **headers}, json=body, trust_env=False, timeout=30).status_code
    return httpx.get(f"{mesh.ingress}{path}", headers=headers, trust_env=False, timeout=30).status_code


# --- calls


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
async def test_the_official_client_lists_and_calls_through_kong(kong_mesh: RealMesh, mode: str) -> None:
    async with Client(f"{kong_mesh.ingress}/mcp/everything", mode=mode) as client:
        assert "echo" in {found.name for found in (await client.list_tools()).tools}
        assert "hello" in str((await client.call_tool("echo", {"message": "hello"})).content)


def test_a_session_stays_on_the_instance_that_opened_it(kong_mesh: RealMesh) -> None:
    with sessions_on_both(f"{kong_mesh.ingress}/mcp/everything") as sessions:
        for number in range(12):
            for session in sessions:
                answer = session.call("echo", {"message": f"{number} of {session.id}"})
                assert answer.status_code == 200, f"HTTP {answer.status_code}: {answer.text}"
                assert f"{number} of {session.id}" in answer.text


def test_a_long_call_arrives_event_by_event(kong_mesh: RealMesh) -> None:
    headers, body = modern("trigger-long-running-operation", {"duration": 12, "steps": 6})
    body["params"]["_meta"]["progressToken"] = "mine"
    arrived = events_of(f"{kong_mesh.ingress}/mcp/everything", headers, body)
    progress = [moment for moment, line in arrived if '"notifications/progress"' in line]
    assert len(progress) == 6 and '"result"' in arrived[-1][1]
    assert progress[-1] - progress[0] > SPREAD_SECONDS


def test_a_plain_service_is_reached_at_its_path_and_nothing_undeclared_is(kong_mesh: RealMesh) -> None:
    assert httpx.get(f"{kong_mesh.ingress}/web/a?b=c", trust_env=False, timeout=30).json()["path"] == "/a?b=c"
    for path in ("/", "/mcp", "/mcp/nobody", "/mcp/everythingelse", "/website"):
        assert httpx.get(f"{kong_mesh.ingress}{path}", trust_env=False, timeout=30).status_code == 404, path


def test_calls_at_once_are_all_answered(kong_mesh: RealMesh) -> None:
    with load(f"{kong_mesh.ingress}/mcp/everything") as calls:
        calls.wait_for_answers(100)
    assert calls.failed == []


def test_a_denied_intention_binds_calls_through_kong(kong_mesh: RealMesh) -> None:
    kong_mesh.consul("intention", "create", "-replace", "-deny", "ingress", "clock")
    try:
        wait_for("clock is denied", lambda: status_of(kong_mesh, "/mcp/clock") == 403)
        assert status_of(kong_mesh, "/web") == 200
    finally:
        kong_mesh.consul("intention", "delete", "ingress", "clock")
    wait_for("clock is allowed", lambda: status_of(kong_mesh, "/mcp/clock") == 200)


# --- reports


def test_status_and_verify_report_kong(kong_mesh: RealMesh) -> None:
    kong_mesh.wait_until_ready()
    assert kong_mesh.status()["ingress_kind"] == "kong" and kong_mesh.status()["ingress_error"] == ""
    assert kong_mesh.processes("gateway") == []
    assert {claim["claim"] for claim in kong_mesh.claims()} >= {
        "the ingress is held by Kong",
        "Kong goes by our document",
        "Kong's sidecar listens for each service with a route",
        "Kong's Admin API is for this machine alone",
        "the ingress answers undeclared paths with 404",
        "a real call through the ingress is answered",
    }


def test_the_document_is_printed(kong_mesh: RealMesh) -> None:
    document = kong_mesh.json("ingress", "render")
    assert {service["name"] for service in document["services"]} == {"everything", "clock", "web"}
    assert "_format_version: '3.0'" in kong_mesh.run("ingress", "render").stdout
    answer = httpx.post(f"{admin_of(kong_mesh)}/config", json=document, trust_env=False, timeout=30)
    assert answer.status_code == 201, answer.text
    wait_for("our document again", lambda: verified(kong_mesh, "Kong goes by our document"))


def test_no_envoy_has_rejected_an_update(kong_mesh: RealMesh) -> None:
    for process in kong_mesh.processes("sidecar"):
        stats = kong_mesh.ask_envoy(process, "/stats?filter=update_rejected")
        assert {line for line in stats.splitlines() if not line.endswith(": 0")} == set(), process.mark.instance


# --- drift and killed processes


def test_a_document_that_others_post_is_replaced_and_that_is_reported(kong_mesh: RealMesh) -> None:
    ours = hash_of(kong_mesh)
    theirs = {"config": '{"_format_version": "3.0", "services": [{"name": "theirs", "host": "127.0.0.1"}]}'}
    kong_mesh.api("POST", "/v1/pause")
    answer = httpx.post(f"{admin_of(kong_mesh)}/config", json=theirs, trust_env=False, timeout=30)
    assert answer.status_code == 201, answer.text
    (claim,) = [c for c in kong_mesh.lines("verify", code=FAILED) if c.get("claim") == "Kong goes by our document"]
    assert not claim["ok"] and "another document" in claim["evidence"]
    assert "post Kong's document" in kong_mesh.run("plan").stdout
    kong_mesh.api("POST", "/v1/resume")
    wait_for("our document is back", lambda: hash_of(kong_mesh) == ours)
    # It is reported once Kong has answered; Kong uses the document a moment earlier.
    wait_for("it is said", lambda: "Kong had another document; it has ours again" in kong_mesh.log())
    wait_for("calls are answered", lambda: status_of(kong_mesh, "/mcp/clock") == 200)


def test_drift_is_corrected_within_seconds(kong_mesh: RealMesh) -> None:
    ours = hash_of(kong_mesh)
    theirs = {"config": '{"_format_version": "3.0", "services": [{"name": "theirs", "host": "127.0.0.1"}]}'}
    httpx.post(f"{admin_of(kong_mesh)}/config", json=theirs, trust_env=False, timeout=30)
    wait_for("our document is back", lambda: hash_of(kong_mesh) == ours)


def test_kong_keeps_serving_without_the_shell_that_keeps_its_mark(kong_mesh: RealMesh) -> None:
    master = master_of(kong_mesh)
    kong_mesh.kill(kong_of(kong_mesh))
    wait_for("calls are answered", lambda: status_of(kong_mesh, "/mcp/clock") == 200)
    kong_mesh.wait_until_ready()
    assert master_of(kong_mesh) == master
    assert kong_mesh.claims()


@pytest.mark.parametrize("shell", ["without the shell", "with the shell"])
def test_a_killed_kong_is_started_again_and_has_its_document_at_once(kong_mesh: RealMesh, shell: str) -> None:
    before, master = kong_of(kong_mesh).pid, master_of(kong_mesh)
    servers = kong_mesh.pids("server") | kong_mesh.pids("shim") | kong_mesh.pids("sidecar")
    os.kill(master, signal.SIGKILL)
    seen: set[int] = set()

    def answered() -> bool:
        try:
            seen.add(status_of(kong_mesh, "/mcp/clock"))
        except httpx.TransportError:
            return False
        return 200 in seen

    wait_for("another Kong", lambda: kong_of(kong_mesh).pid != before)
    wait_for("calls are answered again", answered)
    # An MCP client would take a 404 for the end of its session.
    assert seen <= {200, 502, 503}
    kong_mesh.wait_until_ready()
    wait_for("the killed one is dead", lambda: not alive(master))
    assert servers <= kong_mesh.pids("server") | kong_mesh.pids("shim") | kong_mesh.pids("sidecar")
    wait_for("our document", lambda: verified(kong_mesh, "Kong goes by our document"))


def alive(pid: int) -> bool:
    found = process_tree.read_tree().nodes.get(pid)
    return found is not None and found.state not in "ZX"


def test_a_killed_sidecar_of_kong_is_started_again(kong_mesh: RealMesh) -> None:
    sidecar = kong_mesh.one("sidecar", "ingress")
    kong_mesh.kill(sidecar)
    wait_for("another sidecar", lambda: kong_mesh.one("sidecar", "ingress").pid != sidecar.pid)
    wait_for("calls are answered", lambda: status_of(kong_mesh, "/mcp/clock") == 200)
    kong_mesh.wait_until_ready()


def test_kong_keeps_serving_without_an_agent_and_the_next_one_adopts_it(kong_mesh: RealMesh) -> None:
    kong = kong_of(kong_mesh).pid
    kong_mesh.kill(kong_mesh.agent)
    wait_for("no agent", lambda: kong_mesh.processes("agent") == [])
    assert status_of(kong_mesh, "/mcp/clock") == 200
    kong_mesh.up()
    kong_mesh.wait_until_ready()
    assert kong_of(kong_mesh).pid == kong


# --- changes


def test_an_added_service_has_a_route_until_it_is_removed(kong_mesh: RealMesh) -> None:
    write(kong_mesh.catalog, {"services": {**services(), "later": the_time()}})
    try:
        wait_for("later is there", lambda: status_of(kong_mesh, "/mcp/later") == 200)
    finally:
        write(kong_mesh.catalog, {"services": services()})
    wait_for("later is gone", lambda: status_of(kong_mesh, "/mcp/later") == 404)
    kong_mesh.wait_until_ready()
    assert status_of(kong_mesh, "/mcp/clock") == 200
    assert kong_mesh.pids("shim", "later") == set()


def test_no_call_is_lost_while_routes_change(kong_mesh: RealMesh) -> None:
    with load(f"{kong_mesh.ingress}/mcp/everything", workers=4) as calls:
        write(kong_mesh.catalog, {"services": {**services(), "later": the_time()}})
        wait_for("later is there", lambda: status_of(kong_mesh, "/mcp/later") == 200)
        write(kong_mesh.catalog, {"services": services()})
        wait_for("later is gone", lambda: status_of(kong_mesh, "/mcp/later") == 404)
        calls.wait_for_answers(20)
    assert calls.failed == []
    kong_mesh.wait_until_ready()


def test_a_saved_document_of_the_users_is_merged(kong_mesh: RealMesh, own_document: Path) -> None:
    own_document.write_text(KEYS)
    wait_for("a key is asked for", lambda: status_of(kong_mesh, "/mcp/clock") == 401)
    assert status_of(kong_mesh, "/mcp/clock", apikey="sesame") == 200
    assert status_of(kong_mesh, "/web") == 200
    assert "sesame" not in kong_mesh.run("ingress", "render").stdout
    assert "sesame" in kong_mesh.run("ingress", "render", "--secrets").stdout
    wait_for("our documents together", lambda: verified(kong_mesh, "Kong goes by our document"))
    own_document.unlink()
    wait_for("no key is asked for", lambda: status_of(kong_mesh, "/mcp/clock") == 200)


def test_a_conflict_is_reported_with_file_and_entity_and_changes_nothing(
    kong_mesh: RealMesh, own_document: Path
) -> None:
    ours = hash_of(kong_mesh)
    own_document.write_text('_format_version: "3.0"\nroutes:\n- name: mine\n  paths: [/mcp/clock]\n')
    said = f'{own_document}:3: routes[0]: route path "/mcp/clock" is taken'
    wait_for("the clash is told", lambda: said in str(kong_mesh.status()["catalog_error"]))
    done = kong_mesh.run("reload", code=INPUT)
    assert said in done.stdout + done.stderr
    assert hash_of(kong_mesh) == ours and status_of(kong_mesh, "/mcp/clock") == 200


def test_a_refused_document_is_reported_with_kongs_reason_and_changes_nothing(
    kong_mesh: RealMesh, own_document: Path
) -> None:
    ours = hash_of(kong_mesh)
    own_document.write_text('_format_version: "3.0"\nplugins:\n- name: key-auth\n  config: {key_in_heder: true}\n')
    said = 'plugin "key-auth" config.key_in_heder: unknown field'
    wait_for("the refusal is told", lambda: said in kong_mesh.status()["ingress_error"])
    assert said in kong_mesh.run("status", code=None).stdout
    assert hash_of(kong_mesh) == ours and status_of(kong_mesh, "/mcp/clock") == 200


# --- start and end


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short folder: Kong's sockets are in the state folder, and the length of a socket's path is limited."""
    return tmp_path_factory.mktemp("k")


def test_kong_takes_over_from_the_api_gateway_and_gives_way_to_it_while_services_run(short_path: Path) -> None:
    kong = {"MCPMESH_INGRESS__KIND": "kong", "MCPMESH_KONG__BINARY": str(kong_program(short_path))}
    with real_mesh(short_path, {"services": {"clock": the_time()}}) as mesh:
        mesh.up()
        shims = mesh.pids("shim")
        for environment, kind in ((kong, "kong"), ({}, "api-gateway")):
            mesh.kill(mesh.agent)
            wait_for("no agent", lambda: mesh.processes("agent") == [])
            mesh.environment = environment
            mesh.up()
            mesh.wait_until_ready()
            assert mesh.status()["ingress_kind"] == kind
            assert status_of(mesh, "/mcp/clock") == 200
            assert mesh.claims()
        assert mesh.pids("shim") == shims
        troubles = [line for line in mesh.log().splitlines() if "WARNING" in line]
        assert [line for line in troubles if "ingress" in line.lower() or "kong" in line.lower()] == []


def test_down_lets_calls_finish_and_leaves_nothing(short_path: Path) -> None:
    environment = {"MCPMESH_INGRESS__KIND": "kong", "MCPMESH_KONG__BINARY": str(kong_program(short_path))}
    services = {"everything": everything(timeouts={"drain": "60s"})}
    with real_mesh(short_path, {"services": services}, environment=environment) as mesh:
        mesh.up()
        ports = mesh.held_ports()
        headers, body = modern("trigger-long-running-operation", {"duration": 4, "steps": 2})
        with ThreadPoolExecutor() as beside:
            call = beside.submit(events_of, f"{mesh.ingress}/mcp/everything", headers, body)
            wait_for("the call is under way", lambda: active(mesh, mesh.one("sidecar", "ingress"), "everything"))
            mesh.down()
            assert '"result"' in call.result()[-1][1]
        assert mesh.processes() == [] and mesh.still_held(ports) == set()
        assert not (mesh.home / "kong").exists()
