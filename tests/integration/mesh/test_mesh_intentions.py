"""A person and the mesh at the same intentions: `consul intention` binds at once and is never undone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from tests.integration.mesh.conftest import DRAIN_SECONDS
from tests.integration.mesh.traffic import Load, active, call, load
from tests.support.mesh import RealMesh, wait_for

# A changed intention is to bind at once, on open connections too. Where it does not they go by the old rule until they
# have drained; a machine may stand still for less than that.
BINDS_WITHIN = DRAIN_SECONDS / 2
# Of each of the load's workers more than one.
IN_A_ROW = 50


@pytest.fixture(autouse=True)
def as_before(mesh: RealMesh) -> Iterator[None]:
    """Takes back what a test has written."""
    before = mesh.consul("intention", "list")
    yield
    for source in ("ingress", "stranger"):
        mesh.consul("intention", "delete", source, "everything", code=None)
    wait_for("the intentions are as before", lambda: pairs(mesh.consul("intention", "list")) == pairs(before))
    mesh.wait_until_ready()
    wait_for("the ingress reaches everything", lambda: reached(mesh))


def pairs(listed: str) -> set[tuple[str, ...]]:
    """Source, action and destination of each intention that `consul intention list` shows."""
    return {tuple(line.split()[-4:-1]) for line in listed.splitlines()[1:]}


def reached(mesh: RealMesh) -> bool:
    return httpx.get(f"{mesh.ingress}/mcp/everything", trust_env=False, timeout=30).status_code != 403


def passes(mesh: RealMesh, count: int) -> None:
    """Waits until the agent has looked and planned anew that many times."""
    for _ in range(count):
        assert mesh.api("POST", "/v1/resume").status_code == 204
        wait_for("the agent has looked again", lambda: mesh.status()["in_sync"])


@contextmanager
def told(mesh: RealMesh) -> Iterator[None]:
    """Ends when each sidecar of everything has heard of the change that was made inside.

    So has the gateway then: it is told to connect anew, which ends what nobody uses (docs/decisions/0008).
    """

    def heard() -> dict[str, str]:
        listeners, clusters = "^listener_manager.lds.update_success$", "^cluster_manager.cluster_modified$"
        told = [(p, listeners) for p in mesh.processes("sidecar", "everything")] + [(mesh.one("gateway"), clusters)]
        return {envoy.mark.instance: mesh.ask_envoy(envoy, f"/stats?filter={stat}") for envoy, stat in told}

    before = heard()
    yield
    wait_for("all have heard", lambda: all(heard()[id_] != count for id_, count in before.items()))


def bound(calls: Load, status: int) -> float:
    """When all calls are answered so."""

    def so() -> bool:
        latest = [answer.status for answer in calls.answers[-IN_A_ROW:]]
        return latest == [status] * IN_A_ROW

    wait_for(f"calls are answered {status}", so, BINDS_WITHIN)
    return time.monotonic()


def test_a_denial_binds_on_open_connections_and_no_pass_undoes_it(mesh: RealMesh) -> None:
    with load(f"{mesh.ingress}/mcp/everything") as calls:
        with told(mesh):
            mesh.consul("intention", "create", "-replace", "-deny", "ingress", "everything")
        denied = bound(calls, 403)
        passes(mesh, 3)
        calls.wait_for_answers(400)
        assert {answer.status for answer in calls.since(denied)} == {403}
        with told(mesh):
            mesh.consul("intention", "create", "-replace", "-allow", "ingress", "everything")
        allowed = bound(calls, 200)
        calls.wait_for_answers(400)
        assert {answer.status for answer in calls.since(allowed)} == {200}
    assert "deny" not in mesh.consul("intention", "get", "ingress", "everything")


def test_a_denial_binds_on_connections_that_are_idle_too(mesh: RealMesh) -> None:
    url = f"{mesh.ingress}/mcp/everything"
    with load(url) as calls:
        calls.wait_for_answers(100)
    gateway = mesh.one("gateway")
    with told(mesh):
        assert active(mesh, gateway, "everything", "cx")
        mesh.consul("intention", "create", "-replace", "-deny", "ingress", "everything")
    wait_for("the idle ones are ended", lambda: active(mesh, gateway, "everything", "cx") == 0, BINDS_WITHIN)
    with load(url) as calls:
        pass
    assert {answer.status for answer in calls.answers} == {403}


def test_a_call_that_is_under_way_ends_well_when_an_intention_for_its_service_changes(mesh: RealMesh) -> None:
    url = f"{mesh.ingress}/mcp/everything"
    with ThreadPoolExecutor() as beside, load(url) as calls:
        under_way = beside.submit(call, url, "trigger-long-running-operation", {"duration": 3, "steps": 1})
        calls.wait_for_answers(50)
        mesh.consul("intention", "create", "-allow", "stranger", "everything")
        assert "completed" in str(under_way.result())
        assert calls.failed == []


def test_an_agent_that_starts_anew_leaves_a_denial_as_it_is(mesh: RealMesh) -> None:
    mesh.consul("intention", "create", "-replace", "-deny", "ingress", "everything")
    mesh.kill(mesh.agent)
    wait_for("the agent is gone", lambda: not mesh.processes("agent"))
    mesh.up()
    mesh.wait_until_ready()
    wait_for("everything is denied to the ingress", lambda: not reached(mesh))
    assert "deny" in mesh.consul("intention", "get", "ingress", "everything")


def test_a_person_adds_lists_checks_and_deletes_beside_ours(mesh: RealMesh) -> None:
    ours = pairs(mesh.consul("intention", "list"))
    mesh.consul("intention", "create", "-allow", "stranger", "everything")
    passes(mesh, 2)
    assert pairs(mesh.consul("intention", "list")) == ours | {("stranger", "allow", "everything")}
    assert allowed(mesh, "stranger")
    assert allowed(mesh, "ingress")
    mesh.consul("intention", "delete", "stranger", "everything")
    passes(mesh, 2)
    assert not allowed(mesh, "stranger")
    assert pairs(mesh.consul("intention", "list")) == ours
    # To Consul, a deletion makes the other sources something that this command can't add to.
    wait_for("the person can add again", lambda: "Created" in add(mesh, "stranger"))
    assert allowed(mesh, "stranger")
    assert allowed(mesh, "ingress")


def test_an_intention_of_ours_that_a_person_deletes_comes_back(mesh: RealMesh) -> None:
    mesh.consul("intention", "delete", "web", "everything")
    wait_for("web is allowed again", lambda: allowed(mesh, "web"))


def allowed(mesh: RealMesh, source: str) -> bool:
    return "Allowed" in mesh.consul("intention", "check", source, "everything", code=None)


def add(mesh: RealMesh, source: str) -> str:
    return mesh.consul("intention", "create", "-allow", source, "everything", code=None)
