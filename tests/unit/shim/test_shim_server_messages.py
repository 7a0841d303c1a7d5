"""Which caller gets a server's request or log message: none, as long as it could be another's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.shim.in_process import MODERN, FakeServer, LegacyClient, Shim

from mcpmesh.shim.server import peer as peers

Make = Callable[..., Shim]
ALL = {"roots": {}, "sampling": {}, "elicitation": {}}
SAMPLING = "sampling/createMessage"
RESULT = {"content": []}
CANCELLED = {"code": 0, "message": "Request cancelled"}


@pytest.fixture
def shim(make: Make) -> Shim:
    """A legacy server that all callers share."""
    return make(isolation="shared")


def ask(server: FakeServer, id: Any = 9, method: str = SAMPLING) -> Any:
    """A server request, and what the shim answered to it itself; None if it was passed on."""
    server.request(id, method, {"x": 1})
    return server.answers().get(id)


def refusal(reason: str, method: str = SAMPLING) -> dict[str, Any]:
    return {"code": -32601, "message": f"cannot ask for {method}: {reason}"}


UNCLEAR = refusal("it can't be told for which caller")


def test_a_ping_is_answered_by_the_shim(shim: Shim):
    assert ask(shim.server, "p", "ping") == {}


def test_without_a_caller_there_is_nobody_to_ask(shim: Shim):
    assert ask(shim.server) == refusal("no caller is there")
    assert shim.events["refused_requests"] == 1


def test_without_a_caller_there_are_no_roots(shim: Shim):
    assert ask(shim.server, method="roots/list") == {"roots": []}
    assert "refused_requests" not in shim.events


def test_the_only_caller_is_asked(shim: Shim):
    call = shim.session(ALL).call()
    assert ask(shim.server) is None
    assert call.messages == [{"jsonrpc": "2.0", "id": 1, "method": SAMPLING, "params": {"x": 1}}]


def test_of_two_callers_none_is_asked(shim: Shim):
    calls = [shim.session(ALL).call() for _ in range(2)]
    assert ask(shim.server) == UNCLEAR
    assert [call.messages for call in calls] == [[], []]


def test_of_two_callers_none_is_asked_for_roots(shim: Shim):
    calls = [shim.session(ALL).call() for _ in range(2)]
    assert ask(shim.server, method="roots/list") == {"roots": []}
    assert [call.messages for call in calls] == [[], []]


def test_two_calls_of_one_session_are_one_caller(shim: Shim):
    session = shim.session(ALL)
    stream = session.listen()
    session.call(id=1)
    session.call(id=2)
    assert ask(shim.server) is None
    assert [message["method"] for message in stream.messages] == [SAMPLING]


def test_two_calls_of_modern_clients_are_two_callers(shim: Shim):
    for id in (1, 2):
        shim.modern("tools/call", {"name": "echo"}, id=id, capabilities=ALL)
    assert ask(shim.server) == UNCLEAR


def test_a_call_that_can_ask_nothing_is_no_caller(shim: Shim):
    call = shim.session(ALL).call()
    del shim.automatic["tools/list"]
    shim.session(ALL).request("tools/list")
    assert ask(shim.server) is None
    assert len(call.messages) == 1


@pytest.mark.parametrize("answer", [None, {"error": CANCELLED}])
def test_beside_a_call_that_was_given_up_nobody_is_asked(shim: Shim, answer: Any):
    leaving, staying = shim.session(ALL), shim.session(ALL)
    leaving.call()
    call = staying.call()
    leaving.cancel(1)
    if answer is not None:
        shim.server.send({"id": shim.server.calls[-2]["id"], **answer})
    assert ask(shim.server) == UNCLEAR
    assert call.messages == []


def test_a_caller_is_asked_again_once_the_call_that_was_given_up_has_its_result(shim: Shim):
    leaving, staying = shim.session(ALL), shim.session(ALL)
    leaving.call()
    call = staying.call()
    leaving.cancel(1)
    shim.server.answer(shim.server.calls[-2], RESULT)
    assert ask(shim.server) is None
    assert len(call.messages) == 1


def test_beside_a_modern_call_that_was_given_up_nobody_is_asked(shim: Shim):
    gone = shim.modern("tools/call", {"name": "echo"}, capabilities=ALL)
    call = shim.session(ALL).call()
    gone.leave()
    assert shim.server.cancelled() == [shim.server.calls[-2]["id"]]
    assert ask(shim.server) == UNCLEAR
    assert call.messages == []


def test_a_call_that_could_ask_nothing_leaves_no_doubt_when_it_is_given_up(shim: Shim):
    leaving = shim.session(ALL)
    del shim.automatic["tools/list"]
    leaving.request("tools/list")
    call = shim.session(ALL).call()
    leaving.cancel(1)
    assert ask(shim.server) is None
    assert len(call.messages) == 1


def test_after_all_calls_failed_for_a_line_too_long_nobody_is_asked(shim: Shim):
    shim.session(ALL).call()
    shim.server.on_oversize(b"x" * 100, b"y" * 100, 10**9)
    call = shim.session(ALL).call()
    assert ask(shim.server) == UNCLEAR
    assert call.messages == []


def test_beyond_the_bound_of_abandoned_calls_nobody_is_asked_any_more(shim: Shim, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers, "MAX_ABANDONED", 2)
    leaving = shim.session(ALL)
    for id in range(4):
        leaving.call(id=id)
        leaving.cancel(id)
    for sent in list(shim.server.calls):
        shim.server.answer(sent, RESULT)
    call = shim.session(ALL).call()
    assert (ask(shim.server), call.messages) == (UNCLEAR, [])


@pytest.mark.parametrize(
    ("name", "missing"), [("sampling/createMessage", "sampling"), ("elicitation/create", "elicitation")]
)
def test_a_client_is_not_asked_for_what_it_can_not_do(shim: Shim, name: str, missing: str):
    call = shim.session({key: {} for key in ALL if key != missing}).call()
    assert ask(shim.server, method=name) == {"code": -32601, "message": f"the client can't be asked for {name}"}
    assert (call.messages, shim.events["refused_requests"]) == ([], 1)


def test_a_client_without_roots_has_none(shim: Shim):
    call = shim.session({}).call()
    assert ask(shim.server, method="roots/list") == {"roots": []}
    assert call.messages == []


def test_an_unknown_server_request_is_passed_on_to_a_session(shim: Shim):
    call = shim.session({}).call()
    assert ask(shim.server, method="custom/ask") is None
    assert call.messages[0]["method"] == "custom/ask"


# Which calls are known to ask.


def test_a_call_beside_which_a_server_request_came_is_suspected_and_gets_a_process_of_its_own(make: Make):
    shim = make(isolation="session")
    calls = [shim.modern("tools/call", {"name": n}, capabilities=ALL) for n in ("a", "b")]
    assert ask(shim.server) == UNCLEAR
    again = shim.modern("tools/call", {"name": "a"}, capabilities=ALL)
    extra = shim.running[-1]
    assert extra is not shim.server
    assert [call["params"]["name"] for call in extra.calls] == ["a"]
    assert ask(extra) is None
    shim.advance(0.02)
    assert again.result["resultType"] == "input_required"
    assert [call.status for call in calls] == [0, 0]


def test_a_suspicion_ends_with_the_call_but_a_proof_does_not(make: Make):
    shim = make(isolation="session")
    calls = [shim.modern("tools/call", {"name": n}, capabilities=ALL) for n in ("a", "b")]
    ask(shim.server)
    for sent in shim.server.calls[-2:]:
        shim.server.answer(sent, RESULT)
    assert [call.status for call in calls] == [200, 200]
    # Both were there when the server asked, so neither is cleared by its own end.
    third = shim.modern("tools/call", {"name": "a"}, capabilities=ALL)
    extra = shim.running[-1]
    extra.answer(extra.calls[-1], RESULT)
    assert third.status == 200
    # This one ended without a server request: it is cleared.
    shim.modern("tools/call", {"name": "a"}, capabilities=ALL)
    assert shim.server.calls[-1]["params"]["name"] == "a"


# Log messages.


def log(server: FakeServer, level: str = "error") -> None:
    server.notify("notifications/message", {"level": level, "data": "x"})


def test_a_log_message_goes_to_the_only_caller(shim: Shim):
    call = shim.session().call()
    log(shim.server)
    assert call.messages == [
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "x"}}
    ]


def test_a_log_message_of_a_call_that_can_ask_nothing_is_its_callers(shim: Shim):
    del shim.automatic["tools/list"]
    call = shim.session().request("tools/list")
    log(shim.server)
    assert len(call.messages) == 1


def test_of_two_callers_none_gets_a_log_message(shim: Shim):
    calls = [shim.session().call() for _ in range(2)]
    log(shim.server)
    assert [call.messages for call in calls] == [[], []]
    assert shim.events["dropped_notifications"] == 1


def test_without_a_caller_a_log_message_is_dropped(shim: Shim):
    log(shim.server)
    assert shim.events["dropped_notifications"] == 1


def test_beside_a_call_that_was_just_given_up_nobody_gets_a_log_message(shim: Shim):
    leaving = shim.session()
    leaving.call()
    call = shim.session().call()
    leaving.cancel(1)
    log(shim.server)
    assert call.messages == []
    shim.advance(31)
    seen = len(call.messages)
    log(shim.server)
    assert len(call.messages) == seen + 1


@pytest.mark.parametrize(("level", "wanted"), [("debug", 0), ("info", 0), ("warning", 1), ("error", 1), ("odd", 0)])
def test_a_session_gets_log_messages_from_its_level_on(shim: Shim, level: str, wanted: int):
    session = shim.session()
    session.request("logging/setLevel", {"level": "warning"})
    call = session.call()
    log(shim.server, level)
    assert len(call.messages) == wanted
    assert shim.events.get("dropped_notifications", 0) == 1 - wanted


@pytest.mark.parametrize(
    ("asked", "level", "wanted"), [(None, "emergency", 0), ("info", "debug", 0), ("info", "info", 1)]
)
def test_a_modern_client_gets_the_log_messages_that_it_asked_for(
    shim: Shim, asked: str | None, level: str, wanted: int
):
    meta = {} if asked is None else {"io.modelcontextprotocol/logLevel": asked}
    call = shim.modern("tools/call", {"name": "echo"}, meta=meta)
    log(shim.server, level)
    assert len(call.messages) == wanted


def test_a_log_message_without_a_level_is_info_and_one_that_can_not_be_read_is_debug(shim: Shim):
    session = shim.session()
    session.request("logging/setLevel", {"level": "info"})
    call = session.call()
    shim.server.notify("notifications/message", {"data": "x"})
    assert len(call.messages) == 1
    shim.server.notify("notifications/message", ["x"])
    assert len(call.messages) == 1


# Modern servers.


def test_a_modern_server_sends_no_requests_to_clients(make: Make):
    shim = make(isolation="shared", era=MODERN)
    call = shim.modern("tools/call", {"name": "echo"}, capabilities=ALL)
    error = {"code": -32601, "message": f"{SAMPLING} can't be asked in this revision"}
    assert ask(shim.server) == error
    assert (call.messages, shim.events["refused_requests"]) == ([], 1)


def test_answers_to_server_requests_reach_the_server_under_its_own_id(shim: Shim):
    session: LegacyClient = shim.session(ALL)
    session.call()
    shim.server.request("q", SAMPLING)
    shim.server.request(7, "elicitation/create")
    session.answer(1, {"text": "yes"})
    session.answer(2, error={"code": -1, "message": "no"})
    assert shim.server.answers() == {"q": {"text": "yes"}, 7: {"code": -1, "message": "no"}}
