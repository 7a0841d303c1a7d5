"""Parts that die or hang under load are replaced; nobody but the calls inside them notices."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import httpx
import pytest
from tests.integration.mesh.traffic import Load, Session, load
from tests.support.mesh import RealMesh, wait_for

from mcpmesh.kit.marked_process import is_alive

WORKERS = 8
# Who stands still for some seconds on a busy machine hears of an end so much later. An instance that went on being
# called for that time would fail far more calls than there are workers.
DYING_SECONDS = 8.0


@pytest.fixture(autouse=True)
def whole(mesh: RealMesh) -> Iterator[None]:
    yield
    mesh.wait_until_ready()


def at_most_those_inside_failed(calls: Load, moment: float) -> None:
    """Only calls that met the end itself may have failed, one of each worker.

    A process needs a moment to die, and who speaks to it another one to see
    that; what is sent in between may have arrived, so nobody repeats it.
    """
    assert [answer for answer in calls.failed if answer.began > moment + DYING_SECONDS] == []
    assert len(calls.failed) <= WORKERS


@pytest.mark.parametrize("role", ["shim", "sidecar"])
def test_an_instance_that_is_killed_fails_only_the_calls_inside_it(mesh: RealMesh, role: str) -> None:
    victim = mesh.first(role, "everything")[0]
    # A shim takes its server with it; nothing else ends.
    others = mesh.lasting() - {
        process.pid for process in mesh.processes() if process.mark.instance == victim.mark.instance
    }
    with load(f"{mesh.ingress}/mcp/everything", workers=WORKERS) as calls:
        calls.wait_for_answers(50)
        mesh.kill(victim)
        wait_for("it is dead", lambda: not is_alive(victim))
        killed = time.monotonic()
        calls.wait_for_answers(100)
        wait_for("it is replaced", lambda: len(mesh.pids(role, "everything") - {victim.pid}) == 2)
        mesh.wait_until_ready()
        calls.wait_for_answers(50)
    at_most_those_inside_failed(calls, killed)
    assert others <= mesh.pids()


def test_an_envoy_that_hangs_is_replaced(mesh: RealMesh) -> None:
    victim = mesh.one("sidecar", "clock")
    mesh.kill(victim, signal.SIGSTOP)
    wait_for("the stopped Envoy is replaced", lambda: mesh.pids("sidecar", "clock") - {victim.pid})
    mesh.wait_until_ready()
    assert victim.pid not in mesh.pids()
    with Session(f"{mesh.ingress}/mcp/clock") as session:
        assert session.call("get_current_time", {"timezone": "UTC"}).status_code == 200


def test_an_ingress_that_is_killed_comes_back_at_its_address(mesh: RealMesh) -> None:
    url, others = f"{mesh.ingress}/mcp/clock", mesh.lasting() - mesh.pids("gateway")
    mesh.kill(mesh.one("gateway"))
    wait_for("the ingress answers again", lambda: httpx.get(url, trust_env=False, timeout=30).status_code in (400, 405))
    mesh.wait_until_ready()
    assert others <= mesh.pids()


def test_a_consul_that_is_killed_comes_back_and_no_call_notices(mesh: RealMesh) -> None:
    consul, others = mesh.one("consul"), mesh.lasting() - mesh.pids("consul")
    with load(f"{mesh.ingress}/mcp/everything", workers=4) as calls:
        mesh.kill(consul)
        wait_for("Consul is back", lambda: mesh.pids("consul") - {consul.pid})
        wait_for("Consul answers", lambda: mesh.ask_consul("/v1/status/leader"))
        # The agent's latest look may be one from before.
        mesh.api("POST", "/v1/resume").raise_for_status()
        mesh.wait_until_ready()
        calls.wait_for_answers(50)
    assert calls.failed == []
    assert others <= mesh.pids()


def test_a_plain_program_that_dies_is_started_again(mesh: RealMesh) -> None:
    victim = mesh.one("plain", "web")
    mesh.kill(victim)
    wait_for("web is back", lambda: mesh.pids("plain", "web") - {victim.pid})
    mesh.wait_until_ready()
    wait_for("web answers", lambda: httpx.get(f"{mesh.ingress}/web/", trust_env=False, timeout=30).status_code == 200)


def test_what_is_paused_is_not_healed_until_it_is_resumed(mesh: RealMesh) -> None:
    mesh.run("pause")
    victim = mesh.one("plain", "base")
    mesh.kill(victim)
    wait_for("its death is seen", lambda: mesh.service("base")["state"] != "ready")
    assert mesh.status()["paused"]
    assert not mesh.processes("plain", "base")
    mesh.run("resume")
    wait_for("base is back", lambda: mesh.pids("plain", "base"))
