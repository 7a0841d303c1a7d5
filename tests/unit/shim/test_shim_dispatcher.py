"""Which process gets a call, and what becomes of a call that has to wait for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.shim.in_process import LEGACY, META, MODERN, Client, FakeServer, Shim

from mcpmesh.shim.server.guard_client import SpawnError

Make = Callable[..., Shim]
ALL = {"roots": {}, "sampling": {}, "elicitation": {}}
RESULT = {"content": []}
ASKING = {"name": "asks"}


def call(shim: Shim, name: str = "echo", id: Any = 1, capabilities: Any = None) -> Client:
    return shim.modern("tools/call", {"name": name}, id=id, capabilities=capabilities)


def named(server: FakeServer) -> list[str]:
    """The tools that are being called at a server."""
    return [sent["params"]["name"] for sent in server.calls if sent["method"] == "tools/call"]


def teach(shim: Shim, name: str = "asks") -> None:
    """The shim learns that calls of this tool make the server ask: it did so once."""
    asked = call(shim, name, capabilities=ALL)
    sent = shim.server.calls[-1]
    shim.server.request("q", "sampling/createMessage")
    shim.advance(0.02)
    state = asked.result["requestState"]
    retry = shim.modern(
        "tools/call",
        {"name": name, "inputResponses": {'r"q"': {"text": "yes"}}, "requestState": state},
        capabilities=ALL,
    )
    shim.server.answer(sent, RESULT)
    assert retry.result["content"] == []


# What reaches the server, and what comes back.


def test_a_modern_call_at_a_legacy_server_loses_its_envelope_and_gets_a_complete_result(make: Make):
    shim = make(isolation="shared")
    answer = shim.modern("tools/call", {"name": "echo", "arguments": {"n": 1}}, id="x", meta={"other": 1})
    sent = shim.server.calls[-1]
    assert sent["params"] == {"name": "echo", "arguments": {"n": 1}, "_meta": {"other": 1}}
    shim.server.answer(sent, RESULT)
    assert answer.messages == [
        {
            "jsonrpc": "2.0",
            "id": "x",
            "result": {
                "resultType": "complete",
                "_meta": {f"{META}serverInfo": {"name": "fake", "version": "1"}},
                "content": [],
            },
        }
    ]
    assert shim.outcomes == {("modern", "tools/call", "ok"): 1}


def test_a_modern_call_at_a_modern_server_passes_unchanged(make: Make):
    shim = make(isolation="shared", era=MODERN)
    answer = shim.modern("tools/call", {"name": "echo"}, id="x")
    sent = shim.server.calls[-1]
    envelope = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    assert sent["params"] == {"name": "echo", "_meta": envelope}
    shim.server.answer(sent, RESULT)
    assert answer.messages == [{"jsonrpc": "2.0", "id": "x", "result": RESULT}]


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_progress_comes_back_under_the_callers_own_token(make: Make, era: str):
    shim = make(isolation="shared", era=era)
    calls = [shim.modern("tools/call", {"name": "echo"}, id=1, meta={"progressToken": "same"}) for _ in range(2)]
    first, second = shim.server.calls[-2:]
    assert [sent["params"]["_meta"]["progressToken"] for sent in (first, second)] == [first["id"], second["id"]]
    shim.server.notify("notifications/progress", {"progressToken": second["id"], "progress": 1})
    shim.server.answer(second, RESULT)
    progress = {"progressToken": "same", "progress": 1}
    assert calls[1].messages[0] == {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
    assert (calls[1].ended, calls[0].status) == (True, 0)


def test_progress_without_a_token_of_the_callers_is_dropped(make: Make):
    shim = make(isolation="shared")
    answer = call(shim)
    shim.server.notify("notifications/progress", {"progressToken": shim.server.calls[-1]["id"], "progress": 1})
    assert answer.status == 0


@pytest.mark.parametrize("era", [LEGACY, MODERN])
@pytest.mark.parametrize(("code", "status"), [(-32602, 400), (-32601, 404), (-32700, 400), (-32603, 200), (1, 200)])
def test_an_error_at_a_modern_server_travels_with_its_status(make: Make, era: str, code: int, status: int):
    shim = make(isolation="shared", era=era)
    answer = call(shim, id=4)
    error = {"code": code, "message": "no"}
    shim.server.answer(shim.server.calls[-1], error=error)
    assert (answer.status, answer.messages) == (status, [{"jsonrpc": "2.0", "id": 4, "error": error}])
    assert shim.outcomes == {("modern", "tools/call", "error"): 1}


def test_the_code_of_a_missing_resource_is_the_modern_one(make: Make):
    shim = make(isolation="shared")
    answer = shim.modern("resources/read", {"uri": "x:1"})
    shim.server.answer(shim.server.calls[-1], error={"code": -32002, "message": "no"})
    assert (answer.status, answer.error["code"]) == (400, -32602)


def test_a_tool_that_failed_is_counted_as_such(make: Make):
    shim = make(isolation="shared", era=MODERN)
    call(shim)
    shim.server.answer(shim.server.calls[-1], {"content": [], "isError": True})
    shim.modern("prompts/get", {"name": "p"})
    shim.server.answer(shim.server.calls[-1], {"isError": True})
    assert shim.outcomes == {("modern", "tools/call", "tool_error"): 1, ("modern", "prompts/get", "ok"): 1}


@pytest.mark.parametrize("padding", [0, 512, 5000])
def test_a_failed_tool_is_found_at_both_ends_of_a_long_result(make: Make, padding: int):
    shim = make(isolation="shared", era=MODERN)
    for result in ({"isError": True, "text": "x" * padding}, {"text": "x" * padding, "isError": True}):
        call(shim)
        shim.server.answer(shim.server.calls[-1], result)
    assert shim.outcomes == {("modern", "tools/call", "tool_error"): 2}


# Clients that leave, and calls that take too long.


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_a_modern_client_that_leaves_cancels_its_call(make: Make, era: str):
    shim = make(isolation="shared", era=era)
    answer = call(shim)
    sent = shim.server.calls[-1]
    answer.leave()
    shim.server.answer(sent, RESULT)
    assert shim.server.cancelled() == [sent["id"]]
    assert shim.outcomes == {("modern", "tools/call", "cancelled"): 1}
    assert "stray_messages" not in shim.events


def test_an_answer_that_comes_with_the_clients_end_reaches_only_one_of_them(make: Make):
    shim = make(isolation="shared", era=MODERN)
    answer = call(shim)
    sent = shim.server.calls[-1]
    answer.transport.close()
    shim.server.answer(sent, RESULT)
    assert sum(shim.outcomes.values()) == 1


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_a_call_that_takes_too_long_is_cancelled_and_answered(make: Make, era: str):
    shim = make(isolation="shared", era=era, request_seconds=10)
    answer = call(shim, id="slow")
    shim.advance(10)
    assert not answer.ended
    shim.advance(1.5)
    assert answer.messages[-1] == {
        "jsonrpc": "2.0",
        "id": "slow",
        "error": {
            "code": -32603,
            "message": "the server did not answer within 10 s (request_seconds) and was told to stop; "
            "the call may have taken effect",
            "data": {"reason": "timeout", "started": True},
        },
    }
    assert shim.server.cancelled() == [shim.server.calls[-1]["id"]]
    assert shim.outcomes == {("modern", "tools/call", "failed"): 1}


def test_calls_in_flight_fail_when_the_server_exits(make: Make):
    shim = make(isolation="shared", era=MODERN)
    calls = [call(shim, id=n) for n in range(3)]
    shim.server.exit_with()
    assert [(c.status, c.error["data"]["reason"], c.error["data"]["started"]) for c in calls] == [
        (200, "server-exited", True)
    ] * 3


def test_a_server_that_is_full_refuses_the_next_call_alone(make: Make):
    # One of the three is the shim's own listen.
    shim = make(isolation="shared", era=MODERN, limits={"calls_per_child": 3})
    calls = [call(shim, id=n) for n in range(3)]
    assert [c.status for c in calls] == [0, 0, 503]
    assert calls[2].headers["X-Mcpmesh-Not-Started"] == "1"
    shim.server.answer(shim.server.calls[-1], RESULT)
    assert calls[1].status == 200
    assert call(shim).status == 0


# Isolation shared: one process.


def test_in_shared_isolation_all_calls_go_to_one_process(make: Make):
    shim = make(isolation="shared")
    shim.session(ALL).call("a")
    call(shim, "b", capabilities=ALL)
    call(shim, "c", capabilities=ALL)
    assert (named(shim.server), len(shim.servers)) == (["a", "b", "c"], 1)


# Isolation request: a process for each call.


@pytest.fixture
def request_shim(make: Make) -> Shim:
    return make(isolation="request")


def test_in_request_isolation_each_call_has_a_process_that_is_stopped_after_it(request_shim: Shim):
    shim = request_shim
    main, spare = shim.running
    answer = call(shim)
    assert (named(main), named(spare), spare.stopped) == ([], ["echo"], False)
    assert len(shim.running) == 3  # the next spare
    spare.answer(spare.calls[-1], RESULT)
    assert (answer.status, spare.stopped, main.stopped) == (200, True, False)
    assert len(shim.running) == 2


def test_in_request_isolation_a_call_without_a_spare_waits_for_a_process(request_shim: Shim):
    shim = request_shim
    answers = [call(shim, id=n) for n in range(3)]
    used = [server for server in shim.running if named(server)]
    assert [len(named(server)) for server in used] == [1, 1, 1]
    for server in used:
        server.answer(server.calls[-1], RESULT)
    assert [answer.status for answer in answers] == [200] * 3


def test_in_request_isolation_the_process_of_a_call_that_was_given_up_is_stopped(request_shim: Shim):
    shim = request_shim
    spare = shim.running[1]
    call(shim).leave()
    assert (spare.cancelled(), spare.stopped) == ([spare.calls[-1]["id"]], True)


def test_in_request_isolation_a_process_for_a_call_whose_client_left_is_stopped_unused(request_shim: Shim):
    shim = request_shim
    initialized = shim.automatic.pop("initialize")
    call(shim, "first")  # takes the spare
    late = call(shim, "late")
    waiting = [server for server in shim.running if server.methods()[-1] == "initialize"]
    late.leave()
    for server in waiting:
        server.answer(server.calls[-1], initialized["result"])
    assert [named(server) for server in waiting] == [[], []]
    assert sorted(server.stopped for server in waiting) == [False, True]
    assert shim.app.connections.in_flight == 1


def test_in_request_isolation_a_call_fails_when_no_process_can_be_started(request_shim: Shim):
    shim = request_shim
    call(shim, "first")
    running = len(shim.running)
    shim.next_errors += [SpawnError("cannot start: gone"), SpawnError("cannot start: gone")]
    shim.running[-1].exit_with()
    refused = call(shim, "late")
    assert running == 3
    assert (refused.status, refused.error["message"]) == (503, "cannot start: gone; nothing was started")


def test_too_many_processes_refuse_a_call(make: Make):
    shim = make(isolation="request", limits={"children": 2})
    call(shim, "first")
    refused = call(shim, "second")
    message = "cannot start another server: 2 run already (limits.children); nothing was started"
    assert (refused.status, refused.error["message"]) == (503, message)


# Isolation session: modern calls share the main process, unless they are known to ask.


@pytest.fixture
def shim(make: Make) -> Shim:
    return make(isolation="session")


def test_calls_that_are_not_known_to_ask_share_the_main_process(shim: Shim):
    for n, capabilities in enumerate([None, ALL, ALL]):
        call(shim, f"t{n}", capabilities=capabilities)
    assert named(shim.server) == ["t0", "t1", "t2"]


def test_a_call_that_is_known_to_ask_gets_a_process_without_others(shim: Shim):
    teach(shim)
    call(shim, "other", capabilities=ALL)
    call(shim, "asks", capabilities=ALL)
    call(shim, "asks", id=2, capabilities=ALL)
    extras = [server for server in shim.running if server is not shim.server and named(server)]
    assert (named(shim.server)[-1], [named(server) for server in extras]) == ("other", [["asks"], ["asks"]])


def test_a_known_call_of_a_client_that_can_not_be_asked_shares(shim: Shim):
    teach(shim)
    call(shim, "asks", capabilities={})
    assert named(shim.server)[-1] == "asks"


def test_a_process_with_a_lease_takes_no_calls_that_may_ask(shim: Shim):
    asked = call(shim, "asks", capabilities=ALL)
    shim.server.request("q", "sampling/createMessage")
    shim.advance(0.02)
    assert asked.result["resultType"] == "input_required"
    plain = shim.modern("resources/list", id=2)
    assert shim.server.methods()[-1] == "resources/list"
    assert plain.status == 0
    call(shim, "other", id=3, capabilities=ALL)
    (extra,) = [server for server in shim.running if server is not shim.server and named(server)]
    assert named(extra) == ["other"]


def test_a_call_that_can_not_be_asked_runs_beside_a_lease_if_nothing_else_is_there_and_more_is_started(shim: Shim):
    call(shim, "asks", capabilities=ALL)
    shim.server.request("q", "sampling/createMessage")
    shim.advance(0.02)
    started = len(shim.servers)
    call(shim, "mute", id=2)
    call(shim, "mute", id=3)
    assert named(shim.server) == ["asks", "mute"]
    assert len(shim.servers) == started + 1
    assert named(shim.servers[-1]) == ["mute"]


def test_a_lease_ends_with_its_call(shim: Shim):
    teach(shim)
    call(shim, "asks", capabilities=ALL)
    extra = shim.running[-1]
    extra.answer(extra.calls[-1], RESULT)
    call(shim, "asks", id=2, capabilities=ALL)
    assert named(extra) == ["asks", "asks"]


def test_where_no_more_processes_can_run_a_known_call_shares(shim: Shim):
    teach(shim)
    shim.next_errors.append(SpawnError("cannot start: gone"))
    started = len(shim.servers)
    call(shim, "asks", capabilities=ALL)
    assert named(shim.server)[-1] == "asks"
    # For a while no other is tried.
    call(shim, "asks", id=2, capabilities=ALL)
    assert len(shim.servers) == started + 1
    shim.advance(31)
    call(shim, "asks", id=3, capabilities=ALL)
    assert len(shim.servers) == started + 2
    assert named(shim.servers[-1]) == ["asks"]


def test_no_more_than_eight_extra_processes_run(make: Make):
    shim = make(isolation="session", limits={"spares": 0})
    teach(shim)
    for n in range(10):
        call(shim, "asks", id=n, capabilities=ALL)
    assert [len(named(server)) for server in shim.running] == [3, *[1] * 8]


def test_all_calls_that_wait_for_one_more_process_share_it(shim: Shim):
    call(shim, "asks", capabilities=ALL)
    shim.server.request("q", "sampling/createMessage")
    shim.advance(0.02)
    initialized = shim.automatic.pop("initialize")
    for n in range(3):
        call(shim, f"t{n}", id=n, capabilities=ALL)
    (starting,) = [server for server in shim.running if server.methods()[-1:] == ["initialize"]]
    starting.answer(starting.calls[-1], initialized["result"])
    assert named(starting) == ["t0", "t1", "t2"]


def test_an_extra_process_with_a_call_that_was_given_up_is_replaced(shim: Shim):
    teach(shim)
    gone = call(shim, "asks", capabilities=ALL)
    extra = shim.running[-1]
    gone.leave()
    call(shim, "asks", id=2, capabilities=ALL)
    assert (extra.stopped, named(shim.running[-1])) == (True, ["asks"])
    assert shim.running[-1] is not extra


def test_no_more_calls_wait_for_a_process_than_the_limit(make: Make):
    shim = make(isolation="request", limits={"waiting": 1})
    initialized = shim.automatic.pop("initialize")
    answers = [call(shim, f"t{n}", id=n) for n in range(3)]
    assert [answer.status for answer in answers] == [0, 0, 503]
    for server in shim.running:
        if server.methods()[-1] == "initialize":
            server.answer(server.calls[-1], initialized["result"])
    assert answers[1].status == 0
    shim.automatic["initialize"] = initialized
    assert call(shim, "again").status == 0
