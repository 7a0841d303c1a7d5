"""A saved catalog changes only what changed in it, loses no call, and changes nothing if it has a mistake."""

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
    replaced, others = mesh.pids(service="everything"), mesh.lasting(but="everything")
    with load(f"{mesh.ingress}/mcp/everything") as calls:
        write(mesh.catalog, catalog.replace("KEPT: open", "KEPT: changed"))
        wait_for("everything is replaced", lambda: mesh.pids(service="everything").isdisjoint(replaced))
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
def test_a_bad_catalog_changes_nothing_and_its_mistake_is_located(
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
    status = mesh.run("status", code=None)
    assert says in status.stdout + status.stderr
    write(mesh.catalog, catalog)
    wait_for("the corrected catalog is read", lambda: mesh.status()["catalog_error"] is None)
    mesh.wait_until_ready()
    assert mesh.undisturbed(before)


def test_a_removed_service_leaves_nothing_and_an_added_one_answers(mesh: RealMesh, catalog: str) -> None:
    others = mesh.lasting(but="clock")
    write(mesh.catalog, catalog.replace("  clock:\n", "  watch:\n"))
    wait_for("clock's processes are gone", lambda: not mesh.processes(service="clock"))
    mesh.wait_until_ready()
    # The agent is done here; the gateway and Consul's catalog follow in their own time.
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


def test_plan_for_another_catalog_lists_the_changes_and_does_nothing(mesh: RealMesh, catalog: str) -> None:
    before = mesh.lasting()
    wait_for("nothing is to do", mesh.nothing_to_do)
    other = mesh.folder / "other.yaml"
    write(other, catalog.replace("  clock:\n", "  watch:\n"))

    def plan_is_as_expected() -> bool:
        steps = mesh.json("plan", "-f", str(other), "--exit-code", code=CHANGES)["steps"]
        first_words = {(step["service"], step["sentence"].split()[0]) for step in steps}
        assert {("watch", "start"), ("clock", "drain")} <= first_words
        # For a moment there may be other steps too.
        return {step["service"] for step in steps} == {"watch", "clock"}

    wait_for("the plan has these changes", plan_is_as_expected)
    assert mesh.undisturbed(before)
    wait_for("nothing is to do", mesh.nothing_to_do)


def test_surplus_instances_drain_and_new_ones_start_beside_the_others(mesh: RealMesh, catalog: str) -> None:
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


def test_running_calls_of_a_replaced_service_complete_and_its_sessions_get_404(mesh: RealMesh, catalog: str) -> None:
    replaced = mesh.pids(service="everything")
    with Session(f"{mesh.ingress}/mcp/everything") as session, ThreadPoolExecutor() as threads:
        arguments = {"duration": 6, "steps": 2}
        running = [
            threads.submit(call, session.url, "trigger-long-running-operation", arguments),
            threads.submit(session.call, "trigger-long-running-operation", arguments),
        ]
        wait_for("the calls are under way", lambda: active(mesh, mesh.one("gateway"), "everything") >= 2)
        write(mesh.catalog, catalog.replace("KEPT: open", "KEPT: other"))
        wait_for("everything is replaced", lambda: mesh.pids(service="everything").isdisjoint(replaced))
        for outcome in running:
            assert "completed" in str(getattr(outcome.result(), "text", outcome.result()))
        # The session is lost with its instance; MCP asks the client to initialize again.
        wait_for("the session is not found", lambda: session.call("echo", {"message": "hello"}).status_code == 404)
