"""Calls that wait for their client's input, and the retries that find them again."""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.shim.in_process import MODERN, Client, FakeServer, Shim

from mcpmesh.shim.calls.suspended_calls import request_digest, without_address

Make = Callable[..., Shim]
ALL = {"roots": {}, "sampling": {}, "elicitation": {"form": {}, "url": {}}}
RESULT = {"content": []}
LAPSED = "requestState has lapsed or was used before; send the request again without it"


@pytest.fixture
def shim(make: Make) -> Shim:
    return make(isolation="shared")


def call(shim: Shim, capabilities: Any = ALL, **params: Any) -> Client:
    return shim.modern("tools/call", {"name": "x", **params}, capabilities=capabilities, id=params.get("id", 1))


def ask(shim: Shim, server: FakeServer, *ids: Any, method: str = "sampling/createMessage") -> None:
    """Server requests, and the moment after which the client is asked."""
    for id in ids:
        server.request(id, method, {"of": id})
    shim.advance(0.011)


def retry(shim: Shim, state: str, answers: Any = None, **params: Any) -> Client:
    responses = {} if answers is None else {"inputResponses": answers}
    return shim.modern(
        "tools/call", {"name": "x", "requestState": state, **responses, **params}, capabilities=ALL, id="retry"
    )


def refusal(client: Client) -> tuple[int, int, str]:
    return client.status, client.error["code"], client.error["message"]


# A modern client at a legacy server.


def test_all_that_a_server_asks_at_once_goes_to_the_client_in_one_answer(shim: Shim):
    waiting = call(shim)
    shim.server.request("a", "sampling/createMessage", {"of": "a"})
    shim.server.request(7, "elicitation/create")
    assert waiting.status == 0
    shim.advance(0.011)
    requests = {
        'r"a"': {"method": "sampling/createMessage", "params": {"of": "a"}},
        "r7": {"method": "elicitation/create"},
    }
    assert (waiting.result["resultType"], waiting.result["inputRequests"]) == ("input_required", requests)
    assert shim.outcomes == {("modern", "tools/call", "input_required"): 1}
    assert len(shim.app.suspended) == 1


def test_the_retry_goes_on_where_the_call_stood(shim: Shim):
    waiting = call(shim)
    sent = shim.server.calls[-1]
    ask(shim, shim.server, "a")
    again = retry(shim, waiting.result["requestState"], {'r"a"': {"text": "yes"}})
    assert (shim.server.answers(), shim.server.calls[-1], again.status) == ({"a": {"text": "yes"}}, sent, 0)
    shim.server.answer(sent, RESULT)
    assert (again.messages[0]["id"], again.result["content"]) == ("retry", [])
    assert (len(shim.app.suspended), shim.server.cancelled()) == (0, [])
    assert shim.outcomes[("modern", "tools/call", "ok")] == 1


def test_what_the_client_left_out_is_asked_for_again(shim: Shim):
    waiting = call(shim)
    ask(shim, shim.server, "a", "b")
    again = retry(shim, waiting.result["requestState"], {'r"a"': {"n": 1}, 'r"b"': "no object", "r9": {}})
    assert shim.server.answers() == {"a": {"n": 1}}
    shim.advance(0.011)
    assert list(again.result["inputRequests"]) == ['r"b"']
    last = retry(shim, again.result["requestState"], {'r"b"': {"n": 2}})
    assert shim.server.answers() == {"a": {"n": 1}, "b": {"n": 2}}
    assert last.status == 0


def test_a_retry_without_answers_is_asked_again(shim: Shim):
    waiting = call(shim)
    ask(shim, shim.server, "a")
    again = retry(shim, waiting.result["requestState"])
    shim.advance(0.011)
    assert list(again.result["inputRequests"]) == ['r"a"']


def test_the_retrys_progress_token_replaces_the_first_ones(shim: Shim):
    waiting = shim.modern("tools/call", {"name": "x"}, capabilities=ALL, meta={"progressToken": "first"})
    sent = shim.server.calls[-1]
    ask(shim, shim.server, "a")
    params = {"name": "x", "requestState": waiting.result["requestState"], "inputResponses": {'r"a"': {}}}
    again = shim.modern("tools/call", params, capabilities=ALL, meta={"progressToken": "second"})
    shim.server.notify("notifications/progress", {"progressToken": sent["id"], "progress": 1})
    assert again.messages[0]["params"]["progressToken"] == "second"


@pytest.mark.parametrize("end", [{"result": RESULT}, {"error": {"code": 5, "message": "no"}}])
def test_an_answer_that_came_meanwhile_waits_for_the_retry(shim: Shim, end: dict[str, Any]):
    waiting = call(shim)
    sent = shim.server.calls[-1]
    ask(shim, shim.server, "a")
    shim.server.send({"id": sent["id"], **end})
    shim.server.waiting_bytes = shim.config.limits.stdin_bytes + 1
    again = retry(shim, waiting.result["requestState"], {'r"a"': {}})
    assert again.messages[0].get("error") == end.get("error")
    assert shim.server.answers() == {}


def test_an_exit_that_came_meanwhile_is_told_to_the_retry(shim: Shim):
    waiting = call(shim)
    ask(shim, shim.server, "a")
    shim.server.exit_with()
    shim.advance(1)
    assert retry(shim, waiting.result["requestState"], {'r"a"': {}}).error["data"]["reason"] == "server-exited"


def test_a_retry_is_refused_while_the_server_does_not_read_and_can_be_sent_again(shim: Shim):
    waiting = call(shim)
    ask(shim, shim.server, "a")
    shim.server.waiting_bytes = shim.config.limits.stdin_bytes + 1
    state = waiting.result["requestState"]
    assert retry(shim, state, {'r"a"': {}}).status == 503
    shim.server.waiting_bytes = 0
    assert retry(shim, state, {'r"a"': {}}).status == 0


def test_a_client_that_does_not_come_back_in_time_gives_its_call_up(make: Make):
    shim = make(isolation="shared", limits={"input_seconds": 100})
    waiting = call(shim)
    sent = shim.server.calls[-1]
    ask(shim, shim.server, "a")
    shim.advance(99)
    assert shim.server.cancelled() == []
    shim.advance(2)
    refused = {"code": -32603, "message": "the client did not answer in time"}
    assert (shim.server.cancelled(), shim.server.answers()) == ([sent["id"]], {"a": refused})
    assert refusal(retry(shim, waiting.result["requestState"])) == (400, -32602, LAPSED)


def test_a_suspended_call_does_not_expire_with_the_time_for_a_call(make: Make):
    shim = make(isolation="shared", request_seconds=10, limits={"input_seconds": 100})
    waiting = call(shim)
    ask(shim, shim.server, "a")
    shim.advance(60)
    assert shim.server.cancelled() == []
    assert retry(shim, waiting.result["requestState"], {'r"a"': {}}).status == 0


def test_a_client_that_leaves_before_it_is_asked_cancels_its_call(shim: Shim):
    waiting = call(shim)
    sent = shim.server.calls[-1]
    shim.server.request("a", "sampling/createMessage")
    waiting.leave()
    shim.advance(0.02)
    assert (shim.server.cancelled(), len(shim.app.suspended)) == ([sent["id"]], 0)
    assert shim.server.answers()["a"]["message"] == "the client closed the response stream"


def test_no_more_calls_wait_for_input_than_the_limit(make: Make):
    shim = make(isolation="session", limits={"suspended": 1})
    first = call(shim)
    ask(shim, shim.server, "a")
    second = call(shim)
    extra = shim.running[-1]
    ask(shim, extra, "b")
    assert (first.result["resultType"], second.error["data"]) == (
        "input_required",
        {"reason": "busy", "started": True},
    )
    assert extra.cancelled() == [extra.calls[-1]["id"]]
    assert extra.answers()["b"]["message"] == "too many calls wait for input"


# What a client can't be asked.


def test_a_client_without_roots_has_none(shim: Shim):
    call(shim, {"sampling": {}})
    ask(shim, shim.server, "a", method="roots/list")
    assert shim.server.answers() == {"a": {"roots": []}}


@pytest.mark.parametrize("end", [{"error": {"code": 1, "message": "no"}}, {"result": {"content": [], "isError": True}}])
def test_a_call_that_failed_without_the_capability_says_which_is_missing(shim: Shim, end: dict[str, Any]):
    waiting = call(shim, {"roots": {}})
    sent = shim.server.calls[-1]
    ask(shim, shim.server, "a", method="elicitation/create")
    assert shim.server.answers()["a"]["message"] == "the client can't be asked for elicitation/create here"
    shim.server.send({"id": sent["id"], **end})
    assert (waiting.status, waiting.error) == (
        400,
        {
            "code": -32021,
            "message": "the call needs a client that can be asked for elicitation/create",
            "data": {"requiredCapabilities": {"elicitation": {}}},
        },
    )
    assert shim.events["refused_requests"] == 1


def test_a_call_that_did_without_the_capability_has_its_result(shim: Shim):
    waiting = call(shim, {"roots": {}})
    sent = shim.server.calls[-1]
    ask(shim, shim.server, "a")
    shim.server.answer(sent, RESULT)
    assert waiting.result["content"] == []


def test_an_unknown_server_request_is_refused_without_a_missing_capability(shim: Shim):
    waiting = call(shim)
    sent = shim.server.calls[-1]
    ask(shim, shim.server, "a", method="custom/ask")
    assert shim.server.answers()["a"]["code"] == -32601
    shim.server.answer(sent, error={"code": 1, "message": "no"})
    assert waiting.error == {"code": 1, "message": "no"}


def test_with_several_missing_capabilities_the_first_is_told(shim: Shim):
    waiting = call(shim, {"roots": {}})
    sent = shim.server.calls[-1]
    ask(shim, shim.server, "a", method="sampling/createMessage")
    ask(shim, shim.server, "b", method="elicitation/create")
    shim.server.answer(sent, error={"code": 1, "message": "no"})
    assert waiting.error["data"] == {"requiredCapabilities": {"sampling": {}}}


# Addresses to be visited first.


VISIT = {
    "code": -32042,
    "message": "visit",
    "data": {"elicitations": [{"mode": "url", "url": "https://x", "elicitationId": "1", "message": "m"}]},
}


def test_addresses_to_be_visited_become_input_and_the_retry_is_a_new_call(shim: Shim):
    waiting = call(shim)
    first = shim.server.calls[-1]
    shim.server.answer(first, error=VISIT)
    assert waiting.result["inputRequests"] == {
        "u0": {"method": "elicitation/create", "params": {"mode": "url", "url": "https://x", "message": "m"}}
    }
    state = waiting.result["requestState"]
    assert len(shim.app.suspended) == 0
    again = retry(shim, state, {"u0": {"action": "accept"}})
    second = shim.server.calls[-1]
    assert (second["id"] != first["id"], second["params"]) == (True, {"name": "x"})
    shim.server.answer(second, RESULT)
    assert again.result["content"] == []
    assert refusal(retry(shim, state, name="y")) == (400, -32602, "requestState belongs to another request")


def test_the_state_of_a_new_call_lapses(make: Make):
    shim = make(isolation="shared", limits={"input_seconds": 100})
    waiting = call(shim)
    shim.server.answer(shim.server.calls[-1], error=VISIT)
    state = waiting.result["requestState"]
    shim.advance(99)
    assert retry(shim, state).status == 0
    shim.advance(3)
    assert refusal(retry(shim, state)) == (400, -32602, LAPSED)


def test_a_client_that_can_visit_no_address_is_told_so(shim: Shim):
    waiting = call(shim, {"elicitation": {"form": {}}})
    shim.server.answer(shim.server.calls[-1], error=VISIT)
    assert (waiting.status, waiting.error["data"]) == (400, {"requiredCapabilities": {"elicitation": {"url": {}}}})


def test_of_other_methods_such_an_error_stays_an_error(shim: Shim):
    answer = shim.modern("resources/list", capabilities=ALL)
    shim.server.answer(shim.server.calls[-1], error=VISIT)
    assert answer.error == VISIT


# States.


FOREIGN = "requestState is not one of this instance's, or was changed; send the request without it"


def another_beginning(state: str) -> str:
    return ("B" if state[0] == "A" else "A") + state[1:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: "?", "requestState is not one of this server's"),
        (lambda _: "", FOREIGN),
        (another_beginning, FOREIGN),
        (lambda state: state[:-4], FOREIGN),
    ],
)
def test_a_state_that_was_changed_is_refused(shim: Shim, change: Callable[[str], str], message: str):
    waiting = call(shim)
    ask(shim, shim.server, "a")
    state = waiting.result["requestState"]
    assert refusal(retry(shim, change(state))) == (400, -32602, message)
    assert retry(shim, state, {'r"a"': {}}).status == 0


def test_a_state_is_good_for_one_use(shim: Shim):
    waiting = call(shim)
    ask(shim, shim.server, "a")
    state = waiting.result["requestState"]
    assert retry(shim, state, {'r"a"': {}}).status == 0
    assert refusal(retry(shim, state, {'r"a"': {}})) == (400, -32602, LAPSED)


@pytest.mark.parametrize("params", [{"name": "y"}, {"arguments": {"n": 1}}])
def test_a_state_belongs_to_its_request(shim: Shim, params: dict[str, Any]):
    waiting = call(shim)
    ask(shim, shim.server, "a")
    state = waiting.result["requestState"]
    assert refusal(retry(shim, state, **params)) == (400, -32602, "requestState belongs to another request")
    assert retry(shim, state, {'r"a"': {}}).status == 0


def test_a_state_that_is_no_text_is_refused(shim: Shim):
    refused = shim.modern("tools/call", {"name": "x", "requestState": 7}, capabilities=ALL)
    assert refusal(refused) == (400, -32602, "requestState must be a text")


def test_answers_that_are_no_object_are_refused(shim: Shim):
    waiting = call(shim)
    ask(shim, shim.server, "a")
    refused = retry(shim, waiting.result["requestState"], [])
    assert refusal(refused) == (400, -32602, "inputResponses must be an object")


def test_a_state_names_the_instance_and_ends_in_its_address(make: Make):
    shim = make(isolation="shared", affinity="10.0.0.1:9000", instance="files-2", limits={"input_seconds": 100})
    waiting = call(shim)
    ask(shim, shim.server, "a")
    state = waiting.result["requestState"]
    assert state.endswith("@10.0.0.1:9000")
    payload = json.loads(binascii.a2b_base64(without_address(state))[16:])
    assert (payload["i"], payload["e"]) == ("files-2", int(shim.loop.time() - 0.011 + 100))
    assert retry(shim, state, {'r"a"': {}}).status == 0


@pytest.mark.parametrize(
    ("state", "bare"),
    [
        ("abc@10.0.0.1:9000", "abc"),
        ("abc@[fd00::1]:9000", "abc"),
        ("a@1.1.1.1:1@2.2.2.2:2", "a@1.1.1.1:1"),
        ("abc", "abc"),
        ("abc@host:1", "abc@host:1"),
        ("abc@10.0.0.1:9000\n", "abc@10.0.0.1:9000\n"),
        ("abc@10.0.0.1", "abc@10.0.0.1"),
    ],
)
def test_an_address_is_taken_off_a_state(state: str, bare: str):
    assert without_address(state) == bare


def test_a_request_and_its_retry_have_one_digest():
    one = request_digest("tools/call", {"name": b'"x"', "arguments": b'{"a":1,"b":2}', "_meta": b"{}"})
    other = {"arguments": b'{ "b":2, "a":1 }', "name": b'"x"', "requestState": b'"s"', "inputResponses": b"{}"}
    assert request_digest("tools/call", other) == one
    assert len(one) == 16
    assert request_digest("prompts/get", other) != one
    assert request_digest("tools/call", {**other, "name": b'"y"'}) != one
    assert request_digest("tools/call", {"a": b"1e99999"}) != request_digest("tools/call", {"a": b"1e99998"})


# A modern client at a modern server.


NEEDED = {"resultType": "input_required", "requestState": "sealed", "inputRequests": {}}


def test_without_an_address_a_modern_servers_state_passes_unchanged(make: Make):
    shim = make(isolation="shared", era=MODERN)
    waiting = call(shim)
    shim.server.answer(shim.server.calls[-1], NEEDED)
    assert waiting.result == NEEDED
    retry(shim, "sealed")
    assert shim.server.calls[-1]["params"]["requestState"] == "sealed"


def test_the_address_of_the_instance_is_put_behind_a_modern_servers_state_and_taken_off(make: Make):
    shim = make(isolation="shared", era=MODERN, affinity="10.0.0.1:9000")
    waiting = call(shim)
    shim.server.answer(shim.server.calls[-1], NEEDED)
    assert waiting.result == {**NEEDED, "requestState": "sealed@10.0.0.1:9000"}
    again = retry(shim, "sealed@10.0.0.1:9000", {"a": {}})
    sent = shim.server.calls[-1]
    assert (sent["params"]["requestState"], sent["params"]["inputResponses"]) == ("sealed", {"a": {}})
    shim.server.answer(sent, RESULT)
    assert again.result == RESULT


@pytest.mark.parametrize(
    "result",
    [
        {"resultType": "input_required"},
        {"resultType": "input_required", "requestState": 7},
        {"a": "input_required", "requestState": "s"},
    ],
)
def test_a_result_without_a_state_passes_unchanged(make: Make, result: dict[str, Any]):
    shim = make(isolation="shared", era=MODERN, affinity="10.0.0.1:9000")
    waiting = call(shim)
    shim.server.answer(shim.server.calls[-1], result)
    assert waiting.result == result


def test_other_methods_keep_their_states(make: Make):
    shim = make(isolation="shared", era=MODERN, affinity="10.0.0.1:9000")
    waiting = shim.modern("resources/list", capabilities=ALL)
    shim.server.answer(shim.server.calls[-1], NEEDED)
    assert waiting.result == NEEDED


@pytest.mark.parametrize("padding", [1000, 70_000, 200_000])
def test_the_state_of_a_long_result_is_found(make: Make, padding: int):
    shim = make(isolation="shared", era=MODERN, affinity="10.0.0.1:9000")
    for result in ({**NEEDED, "x": "y" * padding}, {"x": "y" * padding, **NEEDED}):
        waiting = call(shim)
        shim.server.answer(shim.server.calls[-1], result)
        assert waiting.result["requestState"] == "sealed@10.0.0.1:9000"


@pytest.fixture
def own(make: Make) -> Shim:
    """A modern server of which each call has its own process."""
    return make(isolation="request", era=MODERN)


def test_in_request_isolation_the_process_waits_for_the_retry(own: Shim):
    waiting = call(own)
    server = own.servers[1]
    server.answer(server.calls[-1], NEEDED)
    state = waiting.result["requestState"]
    assert (state != "sealed", server.stopped, len(own.app.suspended)) == (True, False, 1)
    again = retry(own, state, {"a": {}})
    assert server.calls[-1]["params"]["requestState"] == "sealed"
    server.answer(server.calls[-1], RESULT)
    assert (again.result, server.stopped, len(own.app.suspended)) == (RESULT, True, 0)


def test_in_request_isolation_a_process_whose_client_does_not_come_back_is_stopped(make: Make):
    shim = make(isolation="request", era=MODERN, limits={"input_seconds": 50})
    call(shim)
    server = shim.servers[1]
    server.answer(server.calls[-1], NEEDED)
    shim.advance(49)
    assert not server.stopped
    shim.advance(2)
    assert (server.stopped, server.cancelled()) == (True, [])


def test_in_request_isolation_a_retry_whose_process_exited_is_refused(own: Shim):
    waiting = call(own)
    server = own.servers[1]
    server.answer(server.calls[-1], NEEDED)
    server.exit_with()
    message = "requestState has lapsed; send the request again without it"
    assert refusal(retry(own, waiting.result["requestState"])) == (400, -32602, message)


def test_in_request_isolation_a_retry_is_refused_while_its_process_does_not_read(own: Shim):
    waiting = call(own)
    server = own.servers[1]
    server.answer(server.calls[-1], NEEDED)
    server.waiting_bytes = own.config.limits.stdin_bytes + 1
    assert retry(own, waiting.result["requestState"]).status == 503
    server.waiting_bytes = 0
    assert retry(own, waiting.result["requestState"]).status == 0


def test_in_request_isolation_half_of_the_processes_wait_at_most_and_the_oldest_makes_room(make: Make):
    shim = make(isolation="request", era=MODERN, limits={"children": 4, "spares": 0})
    for _ in range(3):
        call(shim)
        server = shim.servers[-1]
        server.answer(server.calls[-1], NEEDED)
    assert [server.stopped for server in shim.servers[1:]] == [True, False, False]
    assert len(shim.app.suspended) == 2


def test_in_request_isolation_too_many_that_wait_fail_the_next(make: Make):
    shim = make(isolation="request", era=MODERN, limits={"suspended": 1, "spares": 0})
    calls = []
    for _ in range(2):
        calls.append(call(shim))
        server = shim.servers[-1]
        server.answer(server.calls[-1], NEEDED)
    assert calls[1].error["message"] == "too many calls wait for input (limits.suspended)"
    assert [server.stopped for server in shim.servers[1:]] == [False, True]


def test_in_request_isolation_a_foreign_state_is_refused(own: Shim):
    assert retry(own, "sealed").status == 400
