"""Legacy sessions with a server process of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.shim.in_process import LEGACY, MODERN, FakeServer, LegacyClient, Shim

from mcpmesh.shim.server.channel import ServerExit
from mcpmesh.shim.server.guard_client import SpawnError
from mcpmesh.shim.sessions.session import MAX_SERVER_REQUESTS

Make = Callable[..., Shim]
RESULT = {"content": []}


@pytest.fixture
def shim(make: Make) -> Shim:
    return make(isolation="session")


@pytest.fixture
def session(shim: Shim) -> LegacyClient:
    return shim.session({"roots": {}})


@pytest.fixture
def server(shim: Shim, session: LegacyClient) -> FakeServer:
    """The session's own process: it was the spare."""
    return shim.servers[1]


def reason(client: Any) -> tuple[int, str]:
    return client.status, client.error["data"]["reason"]


# Opening.


def test_the_clients_initialize_and_the_servers_answer_pass_unchanged(shim: Shim):
    opened = shim.initialize({"roots": {"x": 1}}, id="i", version="2025-03-26")
    sent = shim.servers[1].received[0]
    client = {"name": "client", "version": "1"}
    assert (sent["method"], sent["params"]) == (
        "initialize",
        {"protocolVersion": "2025-03-26", "capabilities": {"roots": {"x": 1}}, "clientInfo": client},
    )
    assert opened.messages == [{"jsonrpc": "2.0", "id": "i", "result": shim.automatic["initialize"]["result"]}]
    assert (len(opened.headers["mcp-session-id"]), shim.events["sessions_opened"]) == (32, 1)
    assert shim.outcomes == {("legacy", "initialize", "ok"): 1}


def test_the_session_id_ends_in_the_address_of_the_instance(make: Make):
    shim = make(isolation="session", affinity="10.0.0.1:9000")
    assert shim.session().id.endswith("@10.0.0.1:9000")


def test_each_session_has_a_process_of_its_own_and_a_spare_is_started_for_the_next(shim: Shim):
    for n in range(3):
        shim.session()
        assert len(shim.running) == n + 3
    assert [server.methods() for server in shim.servers[1:]] == [["initialize"]] * 3 + [[]]


def test_without_a_spare_a_process_is_started(make: Make):
    shim = make(isolation="session", limits={"spares": 0})
    assert len(shim.running) == 1
    shim.session()
    assert len(shim.running) == 2


def test_a_spare_that_exited_is_not_used(shim: Shim):
    shim.servers[1].exit_with()
    shim.session()
    assert shim.servers[1].received == []
    assert shim.events["server_exits"] == 1


def test_an_error_from_the_server_is_passed_on_and_opens_no_session(shim: Shim):
    error = {"code": -32602, "message": "Unsupported protocol version"}
    shim.automatic["initialize"] = {"error": error}
    opened = shim.initialize(id=3)
    assert (opened.messages, "mcp-session-id" in opened.headers) == (
        [{"jsonrpc": "2.0", "id": 3, "error": error}],
        False,
    )
    assert shim.servers[1].stopped
    assert shim.outcomes == {("legacy", "initialize", "error"): 1}
    assert shim.app.registry.opening == 0


def test_a_server_that_exits_at_initialize_fails_it(shim: Shim):
    del shim.automatic["initialize"]
    opened = shim.initialize()
    assert shim.app.registry.opening == 1
    shim.servers[1].exit_with(ServerExit(code=3))
    assert reason(opened) == (200, "server-exited")
    assert "mcp-session-id" not in opened.headers
    assert (shim.app.registry.opening, shim.outcomes) == (0, {("legacy", "initialize", "failed"): 1})


def test_a_server_that_does_not_answer_initialize_is_stopped_after_start_seconds(make: Make):
    shim = make(isolation="session", start_seconds=20)
    del shim.automatic["initialize"]
    opened = shim.initialize()
    shim.advance(20)
    assert not opened.ended
    shim.advance(2)
    message = "the server did not answer initialize within 20 s (start_seconds)"
    assert (opened.error["message"], reason(opened)[1]) == (message, "timeout")
    assert shim.servers[1].stopped
    assert shim.app.registry.opening == 0


def test_a_client_that_leaves_during_initialize_leaves_no_session(shim: Shim):
    initialized = shim.automatic.pop("initialize")["result"]
    opened = shim.initialize()
    opened.leave()
    server = shim.servers[1]
    server.answer(server.calls[0], initialized)
    assert (server.stopped, shim.app.registry.sessions, shim.app.registry.opening) == (True, {}, 0)
    assert shim.outcomes == {("legacy", "initialize", "cancelled"): 1}


def test_a_client_that_leaves_before_a_process_is_there_leaves_no_session(make: Make):
    shim = make(isolation="session", limits={"spares": 0})
    started = len(shim.servers)
    shim.initialize(leave=True)
    assert [server.stopped for server in shim.servers[started:]] == [True]
    assert (shim.app.registry.sessions, shim.app.registry.opening) == ({}, 0)


def test_a_program_that_can_not_be_started_fails_initialize(make: Make):
    shim = make(isolation="session", limits={"spares": 0})
    shim.next_errors.append(SpawnError('cannot start "x": gone'))
    assert reason(shim.initialize()) == (503, "failed")
    assert shim.app.registry.opening == 0


def test_no_process_is_tried_while_the_server_crashes_in_a_loop(make: Make):
    shim = make(isolation="session", start=False, limits={"spares": 0, "crash_loop": 1})
    del shim.automatic["initialize"]
    shim.settle()
    shim.servers[0].exit_with()
    started = len(shim.servers)
    refused = shim.initialize()
    assert (refused.status, reason(refused)[1], len(shim.servers)) == (503, "crash-loop", started)


def test_a_process_for_a_new_session_is_taken_from_one_that_is_not_used(make: Make):
    shim = make(isolation="session", limits={"spares": 0, "children": 2})
    first = shim.session()
    refused = shim.initialize()
    assert reason(refused) == (503, "full")
    shim.advance(61)
    second = shim.session()
    assert first.request("ping").status == 404
    assert second.request("ping").status == 0
    assert shim.events["sessions_idled"] == 1


# What the shim learns about the program's eras.


def test_over_a_program_of_both_eras_a_session_gets_its_own_process(make: Make):
    shim = make(isolation="session", era=MODERN)
    shim.automatic["initialize"] = {"result": {"protocolVersion": "2025-06-18", "capabilities": {}}}
    shim.session()
    assert shim.servers[1].methods() == ["initialize"]
    assert (shim.server_info.legacy, "2025-06-18" in shim.server_info.versions) == (True, True)


def test_over_a_modern_program_sessions_share_the_main_process(make: Make):
    shim = make(isolation="session", era=MODERN)
    session = shim.session()
    assert (shim.servers[1].methods(), shim.servers[1].stopped) == (["initialize"], True)
    assert shim.server_info.legacy is False
    session.call()
    assert shim.server.calls[-1]["method"] == "tools/call"
    before = len(shim.servers)
    shim.session()
    assert len(shim.servers) == before


# Requests.


def test_calls_with_one_id_get_their_own_answers(session: LegacyClient, server: FakeServer):
    calls = [session.call(id="same", n=n) for n in range(2)]
    first, second = server.calls
    server.answer(second, {"n": 2})
    server.answer(first, {"n": 1})
    assert [call.messages for call in calls] == [[{"jsonrpc": "2.0", "id": "same", "result": {"n": n}}] for n in (1, 2)]


def test_an_error_travels_with_200_in_a_session(shim: Shim, session: LegacyClient, server: FakeServer):
    call = session.call()
    server.answer(server.calls[-1], error={"code": -32602, "message": "no"})
    assert (call.status, call.error["code"]) == (200, -32602)
    assert shim.outcomes[("legacy", "tools/call", "error")] == 1


def test_a_progress_token_is_replaced(session: LegacyClient, server: FakeServer):
    call = session.request("tools/call", {"name": "x", "_meta": {"progressToken": "p"}})
    sent = server.calls[-1]
    assert sent["params"]["_meta"] == {"progressToken": sent["id"]}
    server.notify("notifications/progress", {"progressToken": sent["id"], "progress": 1})
    assert call.messages == [
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "p", "progress": 1}}
    ]


def test_a_dropped_connection_cancels_nothing_and_the_answer_is_lost(session: LegacyClient, server: FakeServer):
    session.call().leave()
    assert server.cancelled() == []
    server.answer(server.calls[-1], RESULT)
    assert session.request("ping").status == 0


def test_a_call_without_a_client_is_cancelled_when_its_time_is_over(make: Make):
    shim = make(isolation="session", request_seconds=10)
    session = shim.session()
    server = shim.servers[1]
    session.call().leave()
    shim.advance(9)
    assert server.cancelled() == []
    shim.advance(3)
    assert server.cancelled() == [server.calls[-1]["id"]]
    assert shim.outcomes[("legacy", "tools/call", "failed")] == 1


def test_a_call_that_takes_too_long_is_cancelled_and_answered(make: Make):
    shim = make(isolation="session", request_seconds=10)
    session = shim.session()
    call = session.call()
    shim.advance(12)
    assert (call.error["data"]["reason"], shim.servers[1].cancelled()) == ("timeout", [shim.servers[1].calls[-1]["id"]])


def test_a_full_server_refuses_requests_and_notifications_but_takes_a_cancel(make: Make):
    shim = make(isolation="session", limits={"calls_per_child": 1})
    session = shim.session()
    session.call(id=1)
    assert reason(session.call(id=2)) == (503, "busy")
    assert reason(session.notify("notifications/roots/list_changed")) == (503, "busy")
    assert session.cancel(1).status == 202
    shim.servers[1].waiting_bytes = shim.config.limits.stdin_bytes + 1
    assert reason(session.cancel(1)) == (503, "server-stalled")


# Cancels.


def test_a_cancel_is_passed_on_with_the_servers_id(session: LegacyClient, server: FakeServer):
    session.call(id="a")
    session.notify("notifications/cancelled", {"requestId": "a", "reason": "enough"})
    assert server.received[-1]["params"] == {"requestId": server.calls[-1]["id"], "reason": "enough"}


def test_a_cancel_means_the_newest_call_with_that_id_and_the_next_cancel_the_one_before(
    session: LegacyClient, server: FakeServer
):
    for _ in range(3):
        session.call(id="same")
    session.call(id="other")
    ids = [sent["id"] for sent in server.calls]
    session.cancel("same")
    session.cancel("same")
    assert server.cancelled() == [ids[2], ids[1]]


def test_a_cancel_of_no_call_is_dropped(session: LegacyClient, server: FakeServer):
    session.call(id="a")
    assert session.cancel("b").status == 202
    assert session.notify("notifications/cancelled").status == 202
    assert session.notify("notifications/cancelled", {}).status == 202
    assert server.cancelled() == []


def test_a_call_that_its_client_cancelled_is_answered_after_a_while(
    shim: Shim, session: LegacyClient, server: FakeServer
):
    call = session.call(id="a")
    session.cancel("a")
    shim.advance(4.9)
    assert not call.ended
    shim.advance(0.2)
    assert call.error["data"]["reason"] == "cancelled"
    assert shim.outcomes[("legacy", "tools/call", "cancelled")] == 1
    server.answer(server.calls[-1], RESULT)
    assert len([message for message in call.messages if "id" in message]) == 1


def test_the_answer_to_a_cancelled_call_is_passed_on_if_it_comes_soon(
    shim: Shim, session: LegacyClient, server: FakeServer
):
    call = session.call(id="a")
    session.cancel("a")
    server.answer(server.calls[-1], {"content": ["done"]})
    shim.advance(10)
    assert call.messages == [{"jsonrpc": "2.0", "id": "a", "result": {"content": ["done"]}}]
    assert shim.outcomes[("legacy", "tools/call", "ok")] == 1


# Server requests and notifications.


def test_a_ping_is_answered_by_the_shim(session: LegacyClient, server: FakeServer):
    server.request("p", "ping")
    assert server.answers() == {"p": {}}


def test_a_server_request_keeps_its_id(session: LegacyClient, server: FakeServer):
    stream = session.listen()
    server.request("q", "roots/list", {"a": 1})
    assert stream.messages == [{"jsonrpc": "2.0", "id": "q", "method": "roots/list", "params": {"a": 1}}]
    session.answer("q", {"roots": []})
    assert server.answers() == {"q": {"roots": []}}


def test_an_answer_that_no_request_waits_for_is_dropped_and_counted(
    shim: Shim, session: LegacyClient, server: FakeServer
):
    session.answer("q", {"roots": []})
    server.request("q", "roots/list")
    session.answer("q", error={"code": 1, "message": "no"})
    session.answer("q", {"roots": []})
    assert (server.answers(), shim.events["stray_messages"]) == ({"q": {"code": 1, "message": "no"}}, 2)


def test_an_answer_is_kept_back_while_the_server_does_not_read(shim: Shim, session: LegacyClient, server: FakeServer):
    server.request("q", "roots/list")
    server.waiting_bytes = shim.config.limits.stdin_bytes + 1
    assert reason(session.answer("q", {"roots": []})) == (503, "server-stalled")
    server.waiting_bytes = 0
    assert session.answer("q", {"roots": []}).status == 202
    assert server.answers() == {"q": {"roots": []}}


def test_a_server_request_that_is_repeated_counts_once(session: LegacyClient, server: FakeServer):
    session.listen()
    for _ in range(MAX_SERVER_REQUESTS + 1):
        server.request("same", "roots/list")
    session.answer("same", {"roots": []})
    assert server.answers() == {"same": {"roots": []}}


def test_beyond_the_bound_the_oldest_server_request_is_refused(shim: Shim, session: LegacyClient, server: FakeServer):
    session.listen()
    for n in range(MAX_SERVER_REQUESTS + 2):
        server.request(n, "roots/list")
    refused = {"code": -32603, "message": "its client does not answer, and 256 newer requests wait for it"}
    assert (server.answers(), shim.events["refused_requests"]) == ({0: refused, 1: refused}, 2)


def test_messages_of_the_server_go_to_the_only_call(session: LegacyClient, server: FakeServer):
    stream = session.listen()
    call = session.call()
    server.notify("notifications/message", {"level": "info", "data": 1})
    assert ([message["method"] for message in call.messages], stream.messages) == (["notifications/message"], [])


def test_messages_of_the_server_go_to_the_newest_stream_if_there_are_two_calls(
    session: LegacyClient, server: FakeServer
):
    streams = [session.listen(), session.listen()]
    calls = [session.call(id=n) for n in (1, 2)]
    server.notify("notifications/x")
    assert [len(client.messages) for client in (*streams, *calls)] == [0, 1, 0, 0]
    streams[1].leave()
    server.notify("notifications/x")
    assert [len(client.messages) for client in (streams[0], *calls)] == [1, 0, 0]
    streams[0].leave()
    server.notify("notifications/x")
    assert [len(client.messages) for client in calls] == [1, 0]


def test_messages_wait_for_a_stream_in_order(session: LegacyClient, server: FakeServer):
    server.notify("notifications/a")
    server.request("q", "roots/list")
    server.notify("notifications/b")
    stream = session.listen()
    assert [message["method"] for message in stream.messages] == ["notifications/a", "roots/list", "notifications/b"]
    assert b": keep-alive\r\n\r\n" in stream.body
    assert session.listen().messages == []


def test_beyond_the_bound_the_oldest_waiting_messages_are_dropped_and_requests_among_them_refused(make: Make):
    shim = make(isolation="session", limits={"session_backlog": 2})
    session = shim.session()
    server = shim.servers[1]
    server.request("q", "roots/list")
    for name in "abc":
        server.notify(f"notifications/{name}")
    assert server.answers()["q"]["message"] == "its client does not listen, and too much waits for it"
    assert shim.events["dropped_notifications"] == 1
    assert [message["method"] for message in session.listen().messages] == ["notifications/b", "notifications/c"]


def test_beyond_the_bound_of_bytes_the_oldest_waiting_messages_are_dropped(make: Make):
    shim = make(isolation="session", limits={"stream_bytes": 200})
    session = shim.session()
    for name in "abc":
        shim.servers[1].notify(f"notifications/{name}", {"text": "x" * 30})
    assert [message["method"] for message in session.listen().messages] == ["notifications/b", "notifications/c"]
    assert shim.events["dropped_notifications"] == 1


def test_a_client_that_does_not_read_holds_up_its_own_server(session: LegacyClient, server: FakeServer):
    call, stream = session.call(), session.listen()
    for client in (call, stream):
        client.stop_reading()
        assert server.paused
        client.read_on()
        assert not server.paused
    stream.stop_reading()
    stream.leave()
    assert not server.paused


def test_changes_of_the_tools_make_the_shim_read_them_again(shim: Shim, server: FakeServer):
    before = shim.server.methods().count("tools/list")
    for _ in range(3):
        server.notify("notifications/tools/list_changed")
    server.notify("notifications/prompts/list_changed")
    shim.advance(0.4)
    assert shim.server.methods().count("tools/list") == before
    shim.advance(0.2)
    assert shim.server.methods().count("tools/list") == before + 1
    server.notify("notifications/tools/list_changed")
    shim.advance(0.6)
    assert shim.server.methods().count("tools/list") == before + 2


# The end.


def test_a_session_that_its_client_ends_fails_its_calls_and_stops_its_server(
    shim: Shim, session: LegacyClient, server: FakeServer
):
    call, stream = session.call(), session.listen()
    assert session.delete().status == 200
    assert (call.error["data"]["reason"], stream.ended, server.stopped) == ("session-ended", True, True)
    assert session.delete().status == 404
    assert shim.app.registry.sessions == {}


def test_a_session_ends_with_its_server(shim: Shim, session: LegacyClient, server: FakeServer):
    call, stream = session.call(), session.listen()
    server.exit_with(ServerExit(code=7))
    assert (call.error["data"]["exitCode"], stream.ended) == (7, True)
    assert session.request("ping").status == 404


def test_an_idle_session_is_ended(make: Make):
    shim = make(isolation="session", limits={"session_idle_seconds": 30})
    session = shim.session()
    shim.advance(29)
    assert not shim.servers[1].stopped
    shim.advance(2.5)
    assert (shim.servers[1].stopped, shim.events["sessions_idled"]) == (True, 1)
    assert session.request("ping").status == 404


def test_a_session_with_a_call_or_a_stream_is_not_idle(make: Make):
    shim = make(isolation="session", limits={"session_idle_seconds": 30})
    calling, listening = shim.session(), shim.session()
    call, stream = calling.call(), listening.listen()
    shim.advance(60)
    assert shim.events.get("sessions_idled") is None
    call.leave()
    stream.leave()
    shim.advance(28)
    assert shim.events.get("sessions_idled") is None
    shim.advance(5)
    assert shim.events["sessions_idled"] == 2


def test_no_more_sessions_are_open_than_the_limit(make: Make):
    shim = make(isolation="session", limits={"sessions": 2})
    sessions = [shim.session() for _ in range(2)]
    refused = shim.initialize()
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert refused.error["message"] == "cannot open a session: 2 are open (limits.sessions); nothing was started"
    shim.advance(30)
    sessions[0].request("ping").leave()
    shim.advance(31)
    # The one that was not used for longest, at least a minute, makes room.
    third = shim.session()
    assert [s.request("ping").status for s in (*sessions, third)] == [0, 404, 0]


def test_a_session_that_is_being_opened_counts(make: Make):
    shim = make(isolation="session", limits={"sessions": 1})
    del shim.automatic["initialize"]
    shim.initialize()
    assert shim.initialize().status == 503


def test_a_busy_session_makes_no_room(make: Make):
    shim = make(isolation="session", limits={"sessions": 1})
    session = shim.session()
    session.listen()
    shim.advance(120)
    assert shim.initialize().status == 503


def test_the_version_of_a_dedicated_session_is_the_servers_matter(session: LegacyClient):
    assert session.opened.result["protocolVersion"] == LEGACY
