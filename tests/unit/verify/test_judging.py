"""What is made of what was seen: the pure part of every claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.snapshots import snapshot_of, target_of

from mcpmesh.errors import Broken, Refused, Unreachable
from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.model.observed_state import Entry, Intention, Registration
from mcpmesh.model.service import Catalog, Plain, Protocol, ServiceSpec, Stdio
from mcpmesh.reconcile.desired_from_catalog import build_desired_state
from mcpmesh.settings import Settings
from mcpmesh.verify.claims import (
    access_policy,
    call_verdict,
    consul_leftovers,
    intentions,
    sidecars,
    stray_processes,
    versions,
)
from mcpmesh.verify.claims import consul_records as claims_of_consul
from mcpmesh.verify.claims.access_policy import StrangerAttempt
from mcpmesh.verify.claims.route_paths import service_at, user_path_at
from mcpmesh.verify.finding import Diagnosis, holds
from mcpmesh.verify.probes import consul_catalog, envoy_stats, lasting_processes, service_calls
from mcpmesh.verify.probes.namespaces import Namespaces
from mcpmesh.verify.probes.process_tree import Node, ProcessTree
from mcpmesh.verify.probes.tcp_probe import Outcome, Reply
from mcpmesh.verify.target import KongAtIngress, Target
from mcpmesh.workload.containers.container_runtime import ContainerRuntime
from mcpmesh.workload.process_runtime import ProcessRuntime

FILES = ServiceSpec("files", Stdio("server"), allow=("git",), route="/mcp/files")
DATABASE = ServiceSpec("database", Plain(Protocol.TCP, address="127.0.0.1:5432"))
DESIRED = build_desired_state(
    Catalog({"files": FILES, "database": DATABASE}), "m", b"key", "ingress", "127.0.0.1", 8000
)
INSTANCE = DESIRED.services["files"].instances[0].id


def the_target(**ingress: Any) -> Target:
    return target_of(DESIRED, **ingress)


def test_next_steps_name_the_mesh_where_it_is_not_the_default() -> None:
    assert the_target().mcpmesh_command("resume") == "mcpmesh --name m resume"
    assert replace(the_target(), mesh="default").mcpmesh_command("resume") == "mcpmesh resume"


# --- intentions


def intention(source: str, destination: str, action: str = "allow", owner: str | None = None) -> Intention:
    return Intention("", source, destination, action, owner)


def test_the_most_telling_intention_decides() -> None:
    anybody, whole, exact = intention("*", "*"), intention("*", "files", "deny"), intention("git", "files")
    wide = intention("git", "*", "deny")
    assert intentions.deciding_intention([anybody, whole, exact, wide], "git", "files") is exact
    assert intentions.deciding_intention([anybody, whole, wide], "git", "files") is whole
    assert intentions.deciding_intention([anybody, wide], "git", "files") is wide
    assert intentions.deciding_intention([wide, anybody], "time", "files") is anybody
    assert intentions.deciding_intention([exact, wide], "time", "files") is None


def test_only_a_persons_word_for_the_very_pair_turns_the_expectation_round() -> None:
    def denied(found: Intention) -> bool:
        return intentions.is_denial_by_user(found, "git", "files")

    assert denied(intention("git", "files", "deny"))
    assert not denied(intention("git", "files", "deny", owner="m"))
    assert not denied(intention("git", "files", "allow"))
    assert not denied(intention("*", "files", "deny"))


def test_a_missing_intention_fails_with_the_command_that_writes_it() -> None:
    finding = access_policy.judge_declared(the_target(), None, "git", "files")
    assert not finding.ok
    assert finding.next_step.endswith("consul intention create -http-addr=http://127.0.0.1:8500 -allow git files")


@pytest.mark.parametrize(
    ("owner", "words"), [("m", "written by this mesh"), (None, "written by a person"), ("n", "written by mesh n")]
)
def test_an_intention_that_stands_is_good_whoever_wrote_it(owner: str | None, words: str) -> None:
    finding = access_policy.judge_declared(the_target(), intention("git", "files", owner=owner), "git", "files")
    assert finding.ok and words in finding.evidence


def test_a_call_that_passes_is_good_unless_a_person_denied_it() -> None:
    def judged(passed: bool, found: Intention | None) -> bool:
        return call_verdict.judge_call(the_target(), "git", "files", "seen", passed, found).ok

    ours, theirs = intention("git", "files", owner="m"), intention("git", "files", "deny")
    assert [judged(True, found) for found in (ours, None, theirs)] == [True, True, False]
    assert [judged(False, found) for found in (ours, None, theirs)] == [False, False, True]
    assert not judged(False, intention("*", "*", "deny"))


def test_a_refused_call_says_what_refused_it() -> None:
    def told(found: Intention | None) -> str:
        return call_verdict.judge_call(the_target(), "git", "files", "HTTP 403", False, found).evidence

    assert told(None) == "HTTP 403: no intention lets git call files"
    assert told(intention("git", "files", owner="m")) == "HTTP 403, though Consul has git => files (allow)"
    assert "as a person wants it" in told(intention("git", "files", "deny"))


# --- strangers


REFUSED = StrangerAttempt(
    "port 1", "HTTP/1.1 403 Forbidden", True, False, Diagnosis("its Envoy is pid 7", "see its log")
)
LET_IN = StrangerAttempt("port 1", "HTTP/1.1 200 OK", False, True, Diagnosis("its Envoy is pid 7", "see its log"))
SILENT = StrangerAttempt(
    "port 1", "no handshake within 5 s", False, False, Diagnosis("its Envoy (pid 7) is stopped", "kill -CONT 7")
)


def test_a_refused_stranger_is_good() -> None:
    assert access_policy.judge_stranger(the_target(), REFUSED, None, ()).ok


def test_a_stranger_that_got_no_answer_proves_nothing() -> None:
    finding = access_policy.judge_stranger(the_target(), SILENT, None, ())
    assert not finding.ok and "can't be told" in finding.evidence and finding.next_step == "kill -CONT 7"


def test_a_stranger_that_was_let_in_is_told_with_what_let_it_in() -> None:
    finding = access_policy.judge_stranger(the_target(), LET_IN, intention("*", "files"), ())
    assert "the intention * => files (allow) says so" in finding.evidence
    assert finding.next_step.endswith("consul intention delete -http-addr=http://127.0.0.1:8500 '*' 'files'")
    assert "default_intention_policy" in access_policy.judge_stranger(the_target(), LET_IN, None, ()).next_step
    despite = access_policy.judge_stranger(the_target(), LET_IN, intention("*", "*", "deny"), ())
    assert not despite.ok and "though * => * (deny) says otherwise" in despite.evidence


def test_a_service_that_everybody_may_call_lets_strangers_in() -> None:
    assert access_policy.judge_stranger(the_target(), LET_IN, intention("*", "files", owner="m"), ("*",)).ok


# --- refusals


def test_only_an_ended_connection_is_a_refusal() -> None:
    def judged(outcome: Outcome) -> bool:
        return sidecars.judge_refusal(Reply(outcome, "so"), "plain text", "port 1", Diagnosis("trouble", "step")).ok

    assert [outcome for outcome in Outcome if judged(outcome)] == [Outcome.CLOSED]


# --- Consul's answers


def test_the_catalogs_entries_are_read_with_their_failing_checks() -> None:
    node_check = {"Name": "Serf", "Status": "critical", "ServiceID": ""}
    ready = {"Name": "ready", "Status": "passing", "ServiceID": "files-1"}
    listener = {"Name": "listener", "Status": "critical", "ServiceID": "files-1", "Output": "connection\n refused "}
    service = {"ID": "files-1", "Address": "", "Port": 80}
    answer = [{"Node": {"Address": "10.0.0.1"}, "Service": service, "Checks": [node_check, ready, listener]}]
    assert consul_catalog.parse_entries(answer) == {
        "files-1": consul_catalog.CatalogEntry(
            "files-1", "10.0.0.1", 80, ("listener is critical: connection refused",), 2
        )
    }


@pytest.mark.parametrize(
    ("configuration", "policy_"),
    [
        ({"DefaultIntentionPolicy": "deny"}, "deny"),
        ({"DefaultIntentionPolicy": "allow", "ACLResolverSettings": {"ACLDefaultPolicy": "deny"}}, "allow"),
        (
            {"DefaultIntentionPolicy": "", "ACLResolverSettings": {"ACLsEnabled": True, "ACLDefaultPolicy": "deny"}},
            "deny",
        ),
        (
            {"DefaultIntentionPolicy": "", "ACLResolverSettings": {"ACLsEnabled": False, "ACLDefaultPolicy": "deny"}},
            "allow",
        ),
        ({}, "allow"),
    ],
)
def test_the_default_policy_is_told_as_consul_applies_it(configuration: dict[str, Any], policy_: str) -> None:
    assert consul_catalog.parse_default_policy({"DebugConfig": configuration}) == policy_


@pytest.mark.parametrize(("status", "kind"), [(403, Refused), (500, Broken), (200, Broken)])
async def test_an_answer_that_is_not_consuls_is_told_by_kind(status: int, kind: type[Exception]) -> None:
    reader = consul_catalog.ConsulCatalog(
        "http://consul", None, httpx.MockTransport(lambda _: httpx.Response(status, text="?"))
    )
    with pytest.raises(kind, match="cannot read http://consul/v1/agent/self"):
        await reader.default_policy()
    await reader.close()


async def test_a_consul_that_is_away_is_told() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    reader = consul_catalog.ConsulCatalog("http://consul", None, httpx.MockTransport(away))
    with pytest.raises(Unreachable, match="refused"):
        await reader.instances("files")
    await reader.close()


def test_a_failing_check_is_told_with_its_output() -> None:
    entry = consul_catalog.CatalogEntry("files-1", "127.0.0.1", 80, ("ready is critical: HTTP 503",), 2)
    finding = claims_of_consul.judge_checks(the_target(), "files-1", [entry])
    assert not finding.ok and "HTTP 503" in finding.evidence and "/home/m/logs/files-1.log" in finding.next_step
    assert claims_of_consul.judge_checks(the_target(), "files-1", [replace(entry, failing=())]).ok
    assert not claims_of_consul.judge_checks(the_target(), "files-1", []).ok


# --- what is left over


def registration(id_: str, service: str, draining: bool = False) -> Registration:
    return Registration(id_, service, 1, None, "", draining, passing=True)


def test_registrations_of_services_that_nobody_wants_are_left_over() -> None:
    present = {
        item.id: item
        for item in (
            registration("m-files-1-x", "files"),
            registration("m-ingress", "ingress"),
            registration("m-old-1", "old"),
            registration("m-going-1", "going", draining=True),
        )
    }
    assert [item.id for item in consul_leftovers.unwanted_registrations(DESIRED, present)] == ["m-old-1"]


def test_entries_and_intentions_of_others_are_never_left_over() -> None:
    entries = {
        (kind, name): Entry(kind, name, owner, None)
        for kind, name, owner in (
            ("http-route", "files", "m"),
            ("http-route", "old", "m"),
            ("http-route", "theirs", None),
            ("api-gateway", "ingress", "m"),
        )
    }
    assert [entry.name for entry in consul_leftovers.unwanted_entries(DESIRED, entries)] == ["old"]
    present = (
        intention("git", "files", owner="m"),
        intention("time", "files", owner="m"),
        intention("time", "files"),
        intention("git", "gone", owner="m"),
    )
    found = [(i.source, i.destination) for i in consul_leftovers.unwanted_intentions(DESIRED, present)]
    assert found == [("time", "files"), ("git", "gone")]


# --- processes


def process(pid: int, role: str, instance: str = INSTANCE, **ports: int) -> Process:
    return Process(pid, Mark("m", "/home/m", role, instance, "files", ports=ports))


# Whose parents are all somebody else.
NOBODY = ProcessTree({})


def test_the_first_of_each_role_is_accounted_for_and_the_agent_itself() -> None:
    processes = [
        process(10, "consul", "consul"),
        process(11, "gateway", "m-ingress"),
        process(20, "shim"),
        process(21, "server"),
        process(22, "sidecar"),
        process(30, "shim"),
        process(31, "shim", "m-files-1-old"),
        process(32, "gateway", "m-other"),
    ]
    assert stray_processes.expected_pids(the_target(), processes, {INSTANCE}, 5, NOBODY) == {5, 10, 11, 20, 22}


def test_the_program_of_an_image_is_accounted_for_in_a_container_of_its_own() -> None:
    containers = ContainerRuntime(Settings(runtime="containers"), "m", Path("/home/m"))
    there = replace(the_target(), runtime=containers)
    processes = [process(20, "shim"), process(21, "server"), process(31, "server", "m-files-1-old")]
    assert stray_processes.expected_pids(there, processes, {INSTANCE}, 5, NOBODY) == {5, 20, 21}


def test_where_pids_began_anew_the_one_that_started_the_others_is_accounted_for() -> None:
    world = replace(the_target(), kong=KongAtIngress(KongAdmin(), None))
    kong = [process(pid, "kong", "m-ingress") for pid in (7, 8, 32_767)]
    tree = ProcessTree({7: Node(32_767, "kong", "S"), 8: Node(7, "sh", "S"), 32_767: Node(1, "sh", "S")})
    assert stray_processes.expected_pids(world, kong, set(), 5, tree) == {5, 32_767}


async def test_what_ends_a_moment_later_is_no_stray_and_what_lasts_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting_processes, "ENDING_SECONDS", 0.0)
    ending, lasting = process(40, "server", "m-files-1-old"), process(41, "server", "m-files-1-old")

    class Lasting(ProcessRuntime):
        async def list_processes(self) -> list[Process]:
            return [lasting]

    seen = snapshot_of(
        replace(the_target(), runtime=Lasting("m", Path("/home/m"), PortAllocator(11100))),
        (ending, lasting),
        Namespaces(ProcessTree({40: Node(1, "sh", "S"), 41: Node(1, "sleep", "S")})),
    )
    (found,) = await stray_processes.all_are_accounted_for(seen)
    assert not found.ok and found.evidence.startswith("pid 41 (sleep) bears the mark of a server")
    (found,) = await stray_processes.all_are_accounted_for(replace(seen, processes=(ending,)))
    assert found.ok


def test_a_consul_of_ours_beside_an_existing_one_is_a_stray() -> None:
    elsewhere = the_target()
    elsewhere.settings.consul.address = "http://consul:8500"
    assert stray_processes.expected_pids(elsewhere, [process(10, "consul", "consul")], set(), 5, NOBODY) == {5}


# --- routes, tools, versions


def test_a_path_falls_under_a_route_as_a_folder() -> None:
    routes = {"files": "/mcp/files", "web": "/web/"}
    assert service_at(routes, "/mcp/files") == "files"
    assert service_at(routes, "/mcp/files/deep") == "files"
    assert service_at(routes, "/mcp/filesystem") is None
    assert service_at(routes, "/web") == "web"
    assert service_at({"all": "/"}, "/anything") == "all"


def test_a_path_of_a_persons_own_document_is_told_as_kong_matches_it() -> None:
    assert user_path_at(["/shop", "~/v[0-9]+/"], "/shopping") == "/shop"
    assert user_path_at(["/shop", "~/v[0-9]+/"], "/v2/x") == "~/v[0-9]+/"
    assert user_path_at(["/shop", "~/v[0-9]+/"], "/mcp/files") is None


def test_lists_of_tools_are_compared_by_name() -> None:
    assert service_calls.difference(["b", "a"], ["a", "b"]) == ""
    assert service_calls.difference(["a", "c"], ["a", "b"]) == "missing: b; not named by the shim: c"


def test_envoys_version_is_found_in_what_it_says_of_itself() -> None:
    assert envoy_stats.parse_version("f8b7/1.40.0/Clean/RELEASE/BoringSSL") == "1.40.0"
    assert envoy_stats.parse_version("custom") == "custom"


def test_another_envoy_than_the_pinned_one_is_found_unless_it_was_configured() -> None:
    envoy = process(22, "sidecar")
    assert versions.judge_envoy(envoy, "1.40.0", "1.40.0", None, "down") == holds(f"the Envoy of {INSTANCE} is 1.40.0")
    assert not versions.judge_envoy(envoy, "1.36.2", "1.40.0", None, "down").ok
    configured = versions.judge_envoy(envoy, "1.36.2", "1.40.0", "/opt/envoy", "down")
    assert configured.ok and "as configured (/opt/envoy)" in configured.evidence
