"""Legacy sessions over shared server processes, of either era."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.shim.in_process import CAPABILITIES, LEGACY, META, MODERN, LegacyClient, Shim

from mcpmesh.shim.sessions.session import MAX_SERVER_REQUESTS

Make = Callable[..., Shim]
ALL = {"roots": {}, "sampling": {}, "elicitation": {"form": {}, "url": {}}}
RESULT = {"content": []}


@pytest.fixture
def shim(make: Make) -> Shim:
    return make(isolation="shared")


@pytest.fixture
def modern(make: Make) -> Shim:
    """A shim over a modern server."""
    return make(isolation="shared", era=MODERN)


# Opening.


def test_the_shim_answers_initialize_from_what_it_knows_of_the_server(shim: Shim):
    before = len(shim.server.received)
    opened = shim.initialize(id="i", version="2025-06-18")
    assert opened.messages == [
        {
            "jsonrpc": "2.0",
            "id": "i",
            "result": {
                "protocolVersion": "2025-06-18",
                "capabilities": CAPABILITIES,
                "serverInfo": {"name": "fake", "version": "1"},
            },
        }
    ]
    assert (len(shim.server.received), shim.outcomes) == (before, {("legacy", "initialize", "ok"): 1})


def test_a_server_without_a_name_gets_the_services(make: Make):
    shim = make(isolation="shared", name="files", start=False)
    shim.automatic["initialize"]["result"].pop("serverInfo")
    shim.automatic["initialize"]["result"]["instructions"] = "Be kind."
    shim.settle()
    result = shim.initialize().result
    assert (result["serverInfo"], result["instructions"]) == ({"name": "files", "version": ""}, "Be kind.")


@pytest.mark.parametrize("version", ["2024-10-07", MODERN, "x"])
def test_another_version_is_answered_with_the_latest(shim: Shim, version: str):
    assert shim.initialize(version=version).result["protocolVersion"] == LEGACY


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([], "the params of initialize must be an object"),
        ({"capabilities": 1}, "the params of initialize are malformed"),
        ({"capabilities": "ab"}, "the params of initialize are malformed"),
    ],
)
def test_malformed_params_open_no_session(shim: Shim, params: Any, message: str):
    refused = shim.post({"id": 1, "method": "initialize", "params": params})
    assert (refused.error, "mcp-session-id" in refused.headers) == ({"code": -32602, "message": message}, False)
    assert (shim.app.registry.opening, shim.app.registry.sessions) == (0, {})


def test_initialize_waits_for_the_server(make: Make):
    shim = make(isolation="shared", start=False)
    initialized = shim.automatic.pop("initialize")["result"]
    opened = shim.initialize()
    assert (opened.status, shim.app.connections.in_flight) == (0, 1)
    shim.servers[0].answer(shim.servers[0].calls[0], initialized)
    assert opened.result["protocolVersion"] == LEGACY


def test_a_client_that_leaves_while_it_waits_opens_no_session(make: Make):
    shim = make(isolation="shared", start=False)
    initialized = shim.automatic.pop("initialize")["result"]
    shim.initialize().leave()
    shim.servers[0].answer(shim.servers[0].calls[0], initialized)
    assert (shim.app.registry.opening, shim.app.registry.sessions) == (0, {})


def test_initialize_fails_when_the_server_does(make: Make):
    shim = make(isolation="shared", start=False)
    del shim.automatic["initialize"]
    opened = shim.initialize()
    shim.servers[0].exit_with()
    assert (opened.status, opened.error["data"]["reason"], shim.app.registry.opening) == (503, "restarting", 0)


# Requests that the shim answers.


def test_a_ping_is_answered_by_the_shim(shim: Shim):
    session = shim.session()
    before = len(shim.server.received)
    assert session.request("ping", id="p").messages == [{"jsonrpc": "2.0", "id": "p", "result": {}}]
    assert (len(shim.server.received), shim.outcomes[("legacy", "ping", "ok")]) == (before, 1)


@pytest.mark.parametrize("level", ["loud", None, 3])
def test_an_unknown_log_level_is_refused(shim: Shim, level: Any):
    refused = shim.session().request("logging/setLevel", {"level": level})
    assert refused.error["message"].startswith("level must be one of debug, info, notice, warning, error, critical, ")
    assert shim.outcomes[("legacy", "logging/setLevel", "error")] == 1


def test_the_server_logs_as_much_as_the_session_that_wants_most(shim: Shim):
    shim.automatic["logging/setLevel"] = {"result": {}}
    sessions = [shim.session() for _ in range(3)]
    for session in sessions:
        session.notify("notifications/initialized")
    for session, level in zip(sessions, ("warning", "error", "info"), strict=True):
        assert session.request("logging/setLevel", {"level": level}).result == {}
    levels = [m["params"]["level"] for m in shim.server.received if m.get("method") == "logging/setLevel"]
    assert levels == ["warning", "warning", "info"]


def test_a_server_that_can_not_log_is_not_told_a_level(make: Make):
    shim = make(isolation="shared", capabilities={"tools": {}})
    session = shim.session()
    session.notify("notifications/initialized")
    assert session.request("logging/setLevel", {"level": "info"}).result == {}
    assert "logging/setLevel" not in shim.server.methods()


# Calls.


def test_calls_of_two_sessions_with_one_id_get_their_own_answers(shim: Shim):
    calls = [shim.session().call(id=1, n=n) for n in range(2)]
    first, second = shim.server.calls
    shim.server.answer(second, {"n": 1})
    shim.server.answer(first, {"n": 0})
    assert [call.messages for call in calls] == [[{"jsonrpc": "2.0", "id": 1, "result": {"n": n}}] for n in (0, 1)]


def test_a_call_at_a_legacy_server_passes_with_a_token_of_the_shims(shim: Shim):
    shim.session().request("tools/call", {"name": "x", "_meta": {"progressToken": "p", "other": 1}})
    sent = shim.server.calls[-1]
    assert sent["params"] == {"name": "x", "_meta": {"progressToken": sent["id"], "other": 1}}


def test_a_call_without_params_stays_without(shim: Shim):
    del shim.automatic["tools/list"]
    shim.session().request("tools/list")
    assert "params" not in shim.server.calls[-1]


def test_a_call_at_a_modern_server_gets_the_envelope_of_its_session(modern: Shim):
    session = modern.session(ALL)
    session.request("logging/setLevel", {"level": "info"})
    session.call(n=1)
    assert modern.server.calls[-1]["params"] == {
        "name": "echo",
        "arguments": {"n": 1},
        "_meta": {
            f"{META}protocolVersion": MODERN,
            f"{META}clientCapabilities": ALL,
            f"{META}clientInfo": {"name": "client", "version": "1"},
            f"{META}logLevel": "info",
        },
    }


def test_a_dropped_connection_cancels_nothing(shim: Shim):
    session = shim.session()
    session.call().leave()
    assert shim.server.cancelled() == []
    shim.server.answer(shim.server.calls[-1], RESULT)
    assert session.request("ping").status == 200


def test_a_call_whose_client_is_gone_is_cancelled_when_its_time_is_over(make: Make):
    shim = make(isolation="shared", request_seconds=10)
    shim.session().call().leave()
    shim.advance(12)
    assert shim.server.cancelled() == [shim.server.calls[-1]["id"]]


def test_a_call_that_takes_too_long_is_cancelled_and_answered(make: Make):
    shim = make(isolation="shared", request_seconds=10)
    call = shim.session().call()
    shim.advance(12)
    assert (call.error["data"]["reason"], shim.server.cancelled()) == ("timeout", [shim.server.calls[-1]["id"]])
    assert shim.outcomes[("legacy", "tools/call", "failed")] == 1


def test_a_cancel_ends_the_newest_call_with_that_id_at_once(shim: Shim):
    session = shim.session()
    calls = [session.call(id="same") for _ in range(2)]
    session.cancel("same")
    assert (calls[0].status, calls[1].error["data"]["reason"]) == (0, "cancelled")
    assert shim.server.cancelled() == [shim.server.calls[-1]["id"]]
    assert shim.outcomes[("legacy", "tools/call", "cancelled")] == 1


def test_a_cancel_of_no_call_is_dropped(shim: Shim):
    session = shim.session()
    call = session.call(id=1)
    for send in (session.cancel("x"), session.notify("notifications/cancelled", [])):
        assert send.status == 202
    assert (call.status, shim.server.cancelled()) == (0, [])


def test_a_cancel_and_the_answer_in_one_turn_end_the_call_once(shim: Shim):
    session = shim.session()
    call = session.call(id=1)
    sent = shim.server.calls[-1]
    shim.server.send({"id": sent["id"], "result": RESULT})
    assert session.cancel(1).status == 202
    assert (len(call.messages), shim.server.cancelled()) == (1, [])


def test_a_call_that_was_cancelled_while_it_waited_for_a_process_is_never_sent(make: Make):
    shim = make(isolation="request")
    session = shim.session()
    initialized = shim.automatic.pop("initialize")["result"]
    session.call(id=1)
    waiting = session.call(id=2)
    session.cancel(2)
    assert waiting.error["data"]["reason"] == "cancelled"
    for server in shim.running:
        if server.methods()[-1:] == ["initialize"]:
            server.answer(server.calls[-1], initialized)
    sent = [m for server in shim.servers for m in server.received if m.get("method") == "tools/call"]
    assert len(sent) == 1
    assert shim.outcomes[("legacy", "tools/call", "cancelled")] == 1


def test_a_call_whose_client_left_while_it_waited_for_a_process_is_never_sent(make: Make):
    shim = make(isolation="request")
    session = shim.session()
    initialized = shim.automatic.pop("initialize")["result"]
    session.call(id=1)
    session.call(id=2).leave()
    for server in shim.running:
        if server.methods()[-1:] == ["initialize"]:
            server.answer(server.calls[-1], initialized)
    sent = [m for server in shim.servers for m in server.received if m.get("method") == "tools/call"]
    assert len(sent) == 1
    assert shim.outcomes[("legacy", "tools/call", "cancelled")] == 1


def test_a_call_that_is_refused_leaves_nothing_in_its_session(make: Make):
    shim = make(isolation="shared", limits={"calls_per_child": 1})
    session = shim.session()
    session.call(id=1)
    refused = session.call(id=2)
    assert (refused.status, len(session_of(shim, session).calls)) == (503, 1)
    assert session.cancel(2).status == 202
    shim.server.answer(shim.server.calls[-1], RESULT)
    assert session_of(shim, session).calls == {}


def session_of(shim: Shim, client: LegacyClient) -> Any:
    return shim.app.registry.sessions[client.id]


def test_a_session_goes_on_with_the_next_process(shim: Shim):
    session = shim.session()
    call = session.call()
    shim.server.exit_with()
    assert call.error["data"]["reason"] == "server-exited"
    shim.advance(1)
    again = session.call()
    shim.server.answer(shim.server.calls[-1], RESULT)
    assert again.result == RESULT


def test_calls_wait_for_the_next_process(shim: Shim):
    session = shim.session()
    shim.advance(11)
    shim.server.exit_with()
    waiting = session.call()
    assert (waiting.status, waiting.error["data"]["reason"]) == (503, "restarting")
    del shim.automatic["tools/list"]
    shim.advance(0.6)
    starting = shim.servers[-1]
    waiting = session.call()
    assert waiting.status == 0
    starting.answer(starting.calls[-1], {"tools": []})
    starting.answer(starting.calls[-1], RESULT)
    assert waiting.result == RESULT


# Server requests to the client.


def test_a_server_request_gets_an_id_of_the_sessions_own(shim: Shim):
    session = shim.session(ALL)
    call = session.call()
    for id in ("a", "b"):
        shim.server.request(id, "sampling/createMessage", {"id": id})
    assert [(message["id"], message["params"]) for message in call.messages] == [(1, {"id": "a"}), (2, {"id": "b"})]
    session.answer(2, {"from": "b"})
    session.answer(1, {"from": "a"})
    assert shim.server.answers() == {"a": {"from": "a"}, "b": {"from": "b"}}


@pytest.mark.parametrize("id", [2, 0, "1"])
def test_an_answer_that_no_request_waits_for_is_dropped_and_counted(shim: Shim, id: Any):
    session = shim.session(ALL)
    session.call()
    shim.server.request("q", "roots/list")
    session.answer(id, {"roots": []})
    assert (shim.server.answers(), shim.events["stray_messages"]) == ({}, 1)


def test_an_answer_is_kept_back_while_the_server_does_not_read(shim: Shim):
    session = shim.session(ALL)
    session.call()
    shim.server.request("q", "roots/list")
    shim.server.waiting_bytes = shim.config.limits.stdin_bytes + 1
    assert session.answer(1, {"roots": []}).status == 503
    shim.server.waiting_bytes = 0
    assert session.answer(1, {"roots": []}).status == 202
    assert shim.server.answers() == {"q": {"roots": []}}


def test_beyond_the_bound_the_oldest_server_request_is_refused(shim: Shim):
    session = shim.session(ALL)
    session.call()
    for n in range(MAX_SERVER_REQUESTS + 1):
        shim.server.request(n, "roots/list")
    refused = {"code": -32603, "message": "its client does not answer, and 256 newer requests wait for it"}
    assert (shim.server.answers(), shim.events["refused_requests"]) == ({0: refused}, 1)


def test_a_server_request_that_falls_out_of_the_backlog_is_refused(make: Make):
    shim = make(isolation="shared", limits={"session_backlog": 1})
    session = shim.session(ALL)
    call = session.call()
    call.leave()
    for id in ("a", "b"):
        shim.server.request(id, "roots/list")
    refused = {"code": -32603, "message": "its client does not listen, and too much waits for it"}
    assert shim.server.answers() == {"a": refused}
    assert [message["id"] for message in session.listen().messages] == [2]


def test_a_server_request_is_refused_when_its_call_is_over(shim: Shim):
    session = shim.session(ALL)
    session.call()
    sent = shim.server.calls[-1]
    shim.server.request("q", "roots/list")
    shim.server.answer(sent, RESULT)
    refused = {"code": -32603, "message": "the call that it belongs to is over"}
    assert shim.server.answers() == {"q": refused}
    session.answer(1, {"roots": []})
    assert shim.events["stray_messages"] == 1


def test_the_newest_of_a_sessions_calls_inherits_the_server_requests_of_one_that_ends(shim: Shim):
    session = shim.session(ALL)
    session.listen()
    session.call(id=1)
    session.call(id=2)
    first, second = shim.server.calls
    shim.server.request("q", "roots/list")
    shim.server.answer(first, RESULT)
    assert shim.server.answers() == {}
    session.answer(1, {"roots": []})
    assert shim.server.answers() == {"q": {"roots": []}}
    shim.server.request("r", "roots/list")
    shim.server.answer(second, RESULT)
    assert shim.server.answers()["r"]["code"] == -32603


# A modern server that needs input.


INPUT = {
    "resultType": "input_required",
    "requestState": "state-1",
    "inputRequests": {
        "a": {"method": "elicitation/create", "params": {"message": "name?"}},
        "b": {"method": "roots/list"},
    },
}


def test_input_requests_become_server_requests_and_the_answers_go_with_the_retry(modern: Shim):
    session = modern.session(ALL)
    call = session.request("tools/call", {"name": "x", "_meta": {"progressToken": "p"}}, id="c")
    first = modern.server.calls[-1]
    modern.server.answer(first, INPUT)
    assert [(m["id"], m["method"], m.get("params")) for m in call.messages] == [
        (1, "elicitation/create", {"message": "name?"}),
        (2, "roots/list", None),
    ]
    session.answer(2, {"roots": [1]})
    assert modern.server.calls[-1] is first
    session.answer(1, {"action": "accept"})
    retry = modern.server.calls[-1]
    assert retry["id"] != first["id"]
    params = {key: item for key, item in retry["params"].items() if key != "_meta"}
    assert params == {
        "name": "x",
        "inputResponses": {"a": {"action": "accept"}, "b": {"roots": [1]}},
        "requestState": "state-1",
    }
    assert retry["params"]["_meta"]["progressToken"] == retry["id"]
    modern.server.notify("notifications/progress", {"progressToken": retry["id"], "progress": 1})
    modern.server.answer(retry, RESULT)
    assert call.messages[-2]["params"] == {"progressToken": "p", "progress": 1}
    assert call.messages[-1] == {"jsonrpc": "2.0", "id": "c", "result": RESULT}
    assert modern.outcomes[("legacy", "tools/call", "ok")] == 1


def test_the_second_round_replaces_what_the_first_one_sent(modern: Shim):
    session = modern.session(ALL)
    call = session.call()
    modern.server.answer(modern.server.calls[-1], INPUT)
    session.answer(1, {"n": 1})
    session.answer(2, {"roots": []})
    second = {"resultType": "input_required", "inputRequests": {"z": {"method": "roots/list"}}}
    modern.server.answer(modern.server.calls[-1], second)
    session.answer(3, {"roots": [2]})
    params = modern.server.calls[-1]["params"]
    assert (params["inputResponses"], "requestState" in params) == ({"z": {"roots": [2]}}, False)
    modern.server.answer(modern.server.calls[-1], RESULT)
    assert call.messages[-1]["result"] == RESULT


def test_a_state_without_requests_is_retried_at_once(modern: Shim):
    call = modern.session(ALL).call()
    first = modern.server.calls[-1]
    modern.server.answer(first, {"resultType": "input_required", "requestState": "s"})
    retry = modern.server.calls[-1]
    assert (retry["params"]["requestState"], "inputResponses" in retry["params"]) == ("s", False)
    modern.server.answer(retry, RESULT)
    assert call.result == RESULT


def test_a_client_without_roots_has_none_for_a_modern_server(modern: Shim):
    call = modern.session({}).call()
    requests = {"b": {"method": "roots/list"}}
    modern.server.answer(modern.server.calls[-1], {"resultType": "input_required", "inputRequests": requests})
    assert modern.server.calls[-1]["params"]["inputResponses"] == {"b": {"roots": []}}
    assert call.status == 0


def test_a_call_fails_if_its_client_can_not_give_the_input(modern: Shim):
    call = modern.session({"roots": {}}).call()
    modern.server.answer(modern.server.calls[-1], INPUT)
    assert call.error == {
        "code": -32603,
        "message": "the server needs a client that can be asked for elicitation/create",
        "data": {"reason": "missing-capability", "started": True, "requiredCapabilities": {"elicitation": {}}},
    }
    assert (call.messages[0]["id"], modern.server.cancelled()) == (1, [])


def test_a_call_fails_if_its_client_refuses_the_input(modern: Shim):
    session = modern.session(ALL)
    call = session.call(id="c")
    modern.server.answer(modern.server.calls[-1], INPUT)
    sent = len(modern.server.calls)
    session.answer(1, error={"code": -1, "message": "no"})
    assert call.messages[-1] == {"jsonrpc": "2.0", "id": "c", "error": {"code": -1, "message": "no"}}
    # Whatever else its client says is too late.
    session.answer(2, {"roots": []})
    assert (len(modern.server.calls), modern.events["stray_messages"]) == (sent, 1)
    assert modern.outcomes[("legacy", "tools/call", "error")] == 1


def test_a_server_that_never_stops_asking_is_cut_off(modern: Shim):
    call = modern.session(ALL).call()
    for _ in range(33):
        modern.server.answer(modern.server.calls[-1], {"resultType": "input_required", "requestState": "s"})
    assert (call.error["data"]["reason"], call.error["message"]) == (
        "endless-input",
        "the server asked for input 32 times",
    )


def test_too_many_input_requests_at_once_fail_the_call(modern: Shim):
    call = modern.session(ALL).call()
    requests = {str(n): {"method": "roots/list"} for n in range(MAX_SERVER_REQUESTS + 1)}
    modern.server.answer(modern.server.calls[-1], {"resultType": "input_required", "inputRequests": requests})
    message = f"the server asked for {MAX_SERVER_REQUESTS + 1} inputs at once"
    assert (call.error["message"], call.error["data"]["reason"]) == (message, "too-many-inputs")


def test_as_many_input_requests_as_the_limit_are_asked(modern: Shim):
    call = modern.session(ALL).call()
    requests = {str(n): {"method": "roots/list"} for n in range(MAX_SERVER_REQUESTS)}
    modern.server.answer(modern.server.calls[-1], {"resultType": "input_required", "inputRequests": requests})
    assert len(call.messages) == MAX_SERVER_REQUESTS


def test_an_input_request_that_falls_out_of_the_backlog_fails_its_call(make: Make):
    shim = make(isolation="shared", era=MODERN, limits={"session_backlog": 1})
    session = shim.session(ALL)
    session.call().leave()
    shim.server.answer(shim.server.calls[-1], INPUT)
    assert session_of(shim, session).calls == {}
    assert shim.outcomes[("legacy", "tools/call", "failed")] == 1


def test_a_retry_that_can_not_be_sent_fails_the_call_as_started(modern: Shim):
    session = modern.session(ALL)
    call = session.call()
    requests = {"b": {"method": "roots/list"}}
    modern.server.answer(modern.server.calls[-1], {"resultType": "input_required", "inputRequests": requests})
    modern.server.waiting_bytes = modern.config.limits.stdin_bytes + 1
    session.answer(1, {"roots": []})
    assert call.error == {
        "code": -32603,
        "message": "cannot take the call: the server does not read its input fast enough",
        "data": {"reason": "server-stalled", "started": True},
    }


def test_a_call_that_waits_for_its_client_is_not_expired_twice(make: Make):
    shim = make(isolation="shared", era=MODERN, request_seconds=10)
    session = shim.session(ALL)
    session.call().leave()
    shim.server.answer(shim.server.calls[-1], INPUT)
    shim.advance(15)
    assert session_of(shim, session).calls == {}
    assert shim.outcomes[("legacy", "tools/call", "failed")] == 1


def test_a_result_that_only_mentions_the_marker_is_a_result(modern: Shim):
    call = modern.session(ALL).call()
    modern.server.answer(modern.server.calls[-1], {"content": ["input_required"]})
    assert call.result == {"content": ["input_required"]}


# The end.


def test_a_session_that_its_client_ends_cancels_its_calls(shim: Shim):
    session = shim.session()
    call, stream = session.call(), session.listen()
    assert session.delete().status == 200
    assert (call.error["data"]["reason"], stream.ended) == ("session-ended", True)
    assert shim.server.cancelled() == [shim.server.calls[-1]["id"]]
    assert not shim.server.stopped


def test_an_idle_session_is_ended_and_one_with_a_call_is_not(make: Make):
    shim = make(isolation="shared", limits={"session_idle_seconds": 30})
    idle, busy = shim.session(), shim.session()
    call = busy.call()
    shim.advance(32)
    assert idle.request("ping").status == 404
    call.leave()
    shim.advance(28)
    assert busy.request("ping").status == 200
