"""Saving a catalog: only what changed changes, no call is lost, and a bad file touches nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.integration.mesh.traffic import Session, active, call, load, text_of
from tests.support.mesh import CHANGES, RealMesh, wait_for, write


@pytest.fixture(autouse=True)
def catalog(mesh: RealMesh) -> Iterator[str]:
    """The catalog's text, saved again after the test."""
    text = mesh.catalog.read_text()
    yield text
    write(mesh.catalog, text)
    assert mesh.api("POST", "/v1/reload").status_code == 204
    mesh.wait_until_ready()


def test_a_changed_service_is_replaced_under_load_and_no_call_fails(mesh: RealMesh, catalog: str) -> None:
    mine, others = mesh.pids(service="everything"), mesh.lasting(but="everything")
    with load(f"{mesh.ingress}/mcp/everything") as calls:
        write(mesh.catalog, catalog.replace("KEPT: open", "KEPT: changed"))
        wait_for("everything is replaced", lambda: mesh.pids(service="everything").isdisjoint(mine))
        mesh.wait_until_ready()
        calls.wait_for_answers(100)
    assert calls.failed == []
    assert '"KEPT": "changed"' in text_of(call(f"{mesh.ingress}/mcp/everything", "get-env"))
    assert mesh.undisturbed(others, service="everything")
    assert len(mesh.processes("shim", "everything")) == 2


def test_a_changed_policy_restarts_nothing(mesh: RealMesh, catalog: str) -> None:
    before = mesh.lasting()
    write(mesh.catalog, catalog.replace("  clock:\n", "  clock:\n    allow: [web]\n"))
    wait_for(
        "web may call clock",
        lambda: "Allowed" in mesh.consul("intention", "check", "web", "clock", code=None),
    )
    mesh.wait_until_ready()
    assert mesh.undisturbed(before)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("    instances: 2\n", "    instances: 2\n    instancez: 3\n", "instancez: 3", "services.everything.instancez"),
        ("    instances: 2\n", "    instances: two\n", "instances: two", "services.everything.instances"),
        ("    instances: 2\n", "    instances: [2\n", "", ""),
    ],
)
def test_a_bad_catalog_leaves_everything_running_and_says_where(
    mesh: RealMesh, catalog: str, old: str, new: str, line: str, says: str
) -> None:
    before = mesh.lasting()
    bad = catalog.replace(old, new)
    assert bad != catalog
    write(mesh.catalog, bad)
    error = wait_for("the mistake is seen", lambda: mesh.status()["catalog_error"])
    number = next((n for n, text in enumerate(bad.splitlines(), 1) if line and line in text), None)
    assert f"{mesh.catalog}:{number or ''}" in error
    assert says in error
    assert mesh.undisturbed(before)
    assert call(f"{mesh.ingress}/mcp/everything", "echo", {"message": "hello"})
    said = mesh.run("status", code=None)
    assert says in said.stdout + said.stderr
    write(mesh.catalog, catalog)
    wait_for("the mended catalog is read", lambda: mesh.status()["catalog_error"] is None)
    mesh.wait_until_ready()
    assert mesh.undisturbed(before)


def test_a_service_that_is_removed_goes_altogether_and_one_that_is_added_comes(mesh: RealMesh, catalog: str) -> None:
    others = mesh.lasting(but="clock")
    write(mesh.catalog, catalog.replace("  clock:\n", "  watch:\n"))
    wait_for("clock's processes are gone", lambda: not mesh.processes(service="clock"))
    mesh.wait_until_ready()
    # The agent has done all; the gateway and Consul's catalog hear of it in their own time.
    wait_for("clock's route is gone", lambda: status_of(f"{mesh.ingress}/mcp/clock") == 404)
    wait_for("the catalog has no clock", lambda: "clock" not in mesh.ask_consul("/v1/catalog/services"))
    assert mesh.ask_consul("/v1/config/http-route") is not None
    assert "clock" not in mesh.consul("intention", "list")
    assert "clock" not in str(mesh.ask_consul("/v1/agent/services"))
    arguments = {"timezone": "UTC"}
    wait_for("watch answers at the ingress", lambda: call(f"{mesh.ingress}/mcp/watch", "get_current_time", arguments))
    assert others <= mesh.pids()


def status_of(url: str) -> int:
    return httpx.get(url, trust_env=False, timeout=30).status_code


def test_a_plan_of_another_catalog_says_what_would_change_and_does_nothing(mesh: RealMesh, catalog: str) -> None:
    before = mesh.lasting()
    wait_for("nothing is to do", mesh.nothing_to_do)
    other = mesh.folder / "other.yaml"
    write(other, catalog.replace("  clock:\n", "  watch:\n"))

    def told() -> bool:
        steps = mesh.json("plan", "-f", str(other), "--exit-code", code=CHANGES)["steps"]
        said = {(step["service"], step["sentence"].split()[0]) for step in steps}
        assert {("watch", "start"), ("clock", "drain")} <= said
        # Something else may be to do for a moment.
        return {step["service"] for step in steps} == {"watch", "clock"}

    wait_for("what would change is told", told)
    assert mesh.undisturbed(before)
    wait_for("nothing is to do", mesh.nothing_to_do)


def test_fewer_instances_drain_and_more_start_beside_those_that_stay(mesh: RealMesh, catalog: str) -> None:
    first = {p.pid for p in mesh.processes("shim", "everything") if p.mark.instance.startswith("default-everything-1-")}
    with load(f"{mesh.ingress}/mcp/everything", workers=4) as calls:
        write(mesh.catalog, catalog.replace("instances: 2", "instances: 1"))
        wait_for("one instance is left", lambda: mesh.pids("shim", "everything") == first)
        write(mesh.catalog, catalog)
        wait_for("two instances are there", lambda: len(mesh.pids("shim", "everything")) == 2)
        mesh.wait_until_ready()
        calls.wait_for_answers(50)
    assert calls.failed == []
    assert first <= mesh.pids("shim", "everything")


def test_a_call_under_way_in_a_service_that_is_replaced_ends_well_and_a_session_is_told_to_begin_anew(
    mesh: RealMesh, catalog: str
) -> None:
    mine = mesh.pids(service="everything")
    with Session(f"{mesh.ingress}/mcp/everything") as session, ThreadPoolExecutor() as beside:
        arguments = {"duration": 6, "steps": 2}
        under_way = [
            beside.submit(call, session.url, "trigger-long-running-operation", arguments),
            beside.submit(session.call, "trigger-long-running-operation", arguments),
        ]
        wait_for("the calls are under way", lambda: active(mesh, mesh.one("gateway"), "everything") >= 2)
        write(mesh.catalog, catalog.replace("KEPT: open", "KEPT: other"))
        wait_for("everything is replaced", lambda: mesh.pids(service="everything").isdisjoint(mine))
        for outcome in under_way:
            assert "completed" in str(getattr(outcome.result(), "text", outcome.result()))
        # What it knew went with its instance: as MCP has it, the client is to initialize again.
        wait_for("the session is not found", lambda: session.call("echo", {"message": "hello"}).status_code == 404)
