"""The pool of server processes, and the supervision of the main one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.shim.in_process import LEGACY, MODERN, TOOLS, Client, Shim

from mcpmesh.shim.errors import Failure
from mcpmesh.shim.server.channel import ServerExit
from mcpmesh.shim.server.guard_client import SpawnError
from mcpmesh.shim.server.tool_list import MAX_PAGES

Make = Callable[..., Shim]
RESULT = {"content": []}


def ready(shim: Shim) -> tuple[int, dict[str, Any]]:
    answer = shim.get("/ready")
    return answer.status, json.loads(answer.body)


def state(shim: Shim) -> str:
    return shim.app.lifecycle.state


# The first start.


def test_a_legacy_server_is_discovered_initialized_and_asked_for_its_tools(make: Make):
    shim = make()
    assert shim.server.methods() == ["server/discover", "initialize", "notifications/initialized", "tools/list"]
    assert (shim.server_info.modern, shim.server_info.legacy, shim.server_info.tools) == (False, True, TOOLS)
    assert (shim.app.pool.main.modern, shim.app.pool.main.version) == (False, LEGACY)
    assert ready(shim) == (200, {"state": "ready", "name": "server", "instance": "server"})


def test_a_modern_server_is_not_initialized(make: Make):
    shim = make(era=MODERN)
    assert shim.server.methods() == ["server/discover", "tools/list", "subscriptions/listen"]
    assert (shim.server_info.modern, shim.app.pool.main.modern, shim.app.pool.main.version) == (True, True, MODERN)


def test_a_server_without_tools_is_not_asked_for_them(make: Make):
    shim = make(capabilities={"prompts": {}})
    assert ("tools/list" in shim.server.methods(), shim.server_info.tools) == (False, [])


def test_a_silent_server_is_initialized_after_a_while_and_the_first_result_decides(make: Make):
    shim = make(start=False)
    initialized = shim.automatic.pop("initialize")["result"]
    del shim.automatic["server/discover"]
    shim.advance(2.9)
    server = shim.servers[0]
    assert server.methods() == ["server/discover"]
    shim.advance(0.2)
    assert server.methods() == ["server/discover", "initialize"]
    server.answer(server.calls[1], initialized)
    assert (state(shim), shim.server_info.modern) == ("ready", False)
    # A late answer to server/discover changes nothing.
    server.answer(server.calls[0], {"supportedVersions": [MODERN]})
    assert shim.server_info.modern is False


def test_a_slow_modern_server_is_started_again_since_it_heard_initialize(make: Make):
    shim = make(start=False, era=MODERN)
    discovered = shim.automatic.pop("server/discover")
    del shim.automatic["initialize"]
    shim.advance(3.1)
    first = shim.servers[0]
    shim.automatic["server/discover"] = discovered
    first.answer(first.calls[0], discovered["result"])
    assert (first.stopped, state(shim), shim.server_info.modern) == (True, "ready", True)
    assert shim.server.methods() == ["server/discover", "tools/list", "subscriptions/listen"]
    assert shim.app.lifecycle.failures == 0


def test_a_server_that_refuses_discover_late_is_still_initialized(make: Make):
    shim = make(start=False)
    initialized = shim.automatic.pop("initialize")["result"]
    unknown = shim.automatic.pop("server/discover")["error"]
    shim.advance(3.1)
    server = shim.servers[0]
    server.answer(server.calls[0], error=unknown)
    assert state(shim) == "starting"
    server.answer(server.calls[1], initialized)
    assert state(shim) == "ready"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"error": {"code": 1, "message": "no"}},
            'the server answered initialize with an error: {"code":1,"message":"no"}',
        ),
        ({"result": [1]}, "the server answered initialize with an error: "),
    ],
)
def test_a_server_that_is_no_mcp_server_is_told_so(make: Make, answer: dict[str, Any], words: str):
    shim = make(start=False)
    shim.automatic["initialize"] = answer
    shim.settle()
    status, body = ready(shim)
    assert (status, body["state"]) == (503, "restarting")
    assert body["error"].startswith(words)
    assert shim.servers[0].stopped


def test_a_server_that_does_not_answer_in_time_is_stopped_and_tried_again(make: Make):
    shim = make(start=False, start_seconds=20)
    del shim.automatic["initialize"]
    shim.advance(20.1)
    assert shim.servers[0].stopped
    _, body = ready(shim)
    assert body["error"] == "the server did not answer within 20 s; see its output or raise start_seconds"
    shim.advance(0.6)
    assert len(shim.servers) == 2


def test_a_server_that_exits_before_it_speaks_is_told_with_its_output(make: Make):
    shim = make(start=False)
    del shim.automatic["initialize"]
    shim.settle()
    shim.servers[0].tail.add(b"no such file")
    shim.servers[0].exit_with(ServerExit(code=3))
    assert ready(shim) == (
        503,
        {
            "state": "restarting",
            "name": "server",
            "instance": "server",
            "error": "the server exited with code 3 before it spoke MCP",
            "exit_code": 3,
            "output": ["no such file"],
        },
    )


def test_a_server_that_exits_at_discover_is_initialized_first_the_next_time(make: Make):
    shim = make(start=False)
    discover = shim.automatic.pop("server/discover")
    shim.settle()
    shim.servers[0].exit_with()
    shim.automatic["server/discover"] = discover
    shim.advance(0.6)
    assert (shim.server.methods()[0], state(shim)) == ("initialize", "ready")


def test_a_program_that_can_not_be_started_has_failed_and_is_tried_again(make: Make):
    shim = make(start=False)
    shim.next_errors.append(SpawnError('cannot start "x": there is no such file'))
    shim.settle()
    status, body = ready(shim)
    assert (status, body["state"], body["error"]) == (503, "failed", 'cannot start "x": there is no such file')
    assert body["exit_code"] is None
    shim.advance(0.6)
    assert state(shim) == "ready"


def test_a_start_without_means_says_so(make: Make):
    shim = make(start=False)
    shim.next_errors.append(OSError(24, "Too many open files"))
    shim.settle()
    assert ready(shim)[1]["error"] == "cannot start a server: Too many open files; nothing was started"
    assert shim.app.pool.peers == set()


# Restarts.


def test_the_main_process_is_started_again_after_its_exit(make: Make):
    shim = make()
    shim.advance(11)
    first = shim.server
    first.exit_with(ServerExit(signal=9))
    assert (state(shim), shim.app.pool.main) == ("restarting", None)
    assert ready(shim)[1]["error"] == "the server was killed by signal 9 (SIGKILL)"
    assert shim.events["server_exits"] == 1
    shim.advance(0.6)
    assert (state(shim), shim.server is first, shim.app.lifecycle.failures) == ("ready", False, 1)


def test_exits_of_a_server_that_stayed_up_are_not_added_up(make: Make):
    shim = make(limits={"crash_loop": 2})
    for _ in range(3):
        shim.advance(10.1)
        shim.server.exit_with()
        assert (state(shim), shim.app.lifecycle.failures) == ("restarting", 1)
        shim.advance(0.6)


def test_exits_of_a_server_that_did_not_stay_up_are_a_crash_loop(make: Make):
    shim = make(limits={"crash_loop": 2})
    shim.server.exit_with()
    assert state(shim) == "restarting"
    shim.advance(0.6)
    shim.server.exit_with()
    assert (state(shim), ready(shim)[0]) == ("crash-loop", 503)
    shim.advance(0.9)
    assert state(shim) == "crash-loop"
    shim.advance(0.2)
    assert state(shim) == "ready"


def test_while_a_crashed_server_starts_again_it_is_starting_and_its_last_error_stays(make: Make):
    shim = make()
    shim.server.exit_with()
    del shim.automatic["initialize"]
    shim.advance(0.6)
    assert (state(shim), shim.app.lifecycle.error) == ("starting", "the server exited with code 1")


def test_a_call_that_waits_for_a_restart_fails_if_that_takes_too_long(make: Make):
    shim = make(isolation="shared", start_seconds=5)
    shim.advance(11)
    shim.server.exit_with()
    del shim.automatic["initialize"]
    shim.advance(0.6)
    waiting = shim.modern("tools/call", {"name": "echo"})
    assert waiting.status == 0
    shim.advance(5.1)
    assert (waiting.ended, waiting.error["data"]["reason"]) == (True, "restarting")


# Whether the server answers.


def test_a_server_that_answered_lately_is_not_probed(make: Make):
    shim = make(limits={"probe_seconds": 30})
    before = len(shim.server.received)
    shim.advance(29)
    assert ready(shim)[0] == 200
    assert len(shim.server.received) == before


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_a_server_that_was_silent_is_probed_and_any_answer_counts(make: Make, era: str):
    shim = make(era=era)
    shim.advance(31)
    shim.automatic["ping" if era == LEGACY else "server/discover"] = {"error": {"code": 1, "message": "no"}}
    assert ready(shim)[0] == 200
    probe = shim.server.methods()[-1]
    assert probe == ("ping" if era == LEGACY else "server/discover")
    before = len(shim.server.received)
    assert ready(shim)[0] == 200
    assert len(shim.server.received) == before


def test_an_answer_to_a_call_proves_that_the_server_answers(make: Make):
    shim = make(isolation="shared")
    shim.advance(29)
    shim.modern("tools/call", {"name": "x"})
    shim.server.answer(shim.server.calls[-1], RESULT)
    shim.advance(29)
    assert ready(shim)[0] == 200
    assert "ping" not in shim.server.methods()


def test_one_probe_serves_all_who_ask(make: Make):
    shim = make()
    shim.advance(31)
    answers = [shim.get("/ready") for _ in range(3)]
    assert shim.server.methods().count("ping") == 1
    shim.server.answer(shim.server.calls[-1], {})
    assert [answer.status for answer in answers] == [200] * 3


def test_a_server_that_answers_no_ping_may_answer_for_its_tools(make: Make):
    shim = make(limits={"probe_timeout_seconds": 10})
    shim.advance(31)
    answer = shim.get("/ready")
    shim.advance(4.9)
    assert shim.server.methods()[-1] == "ping"
    shim.advance(0.2)
    assert answer.status == 200


def test_a_server_that_answers_no_probe_is_killed_and_started_again(make: Make):
    shim = make(limits={"probe_timeout_seconds": 10})
    shim.advance(31)
    del shim.automatic["tools/list"]
    first = shim.server
    answer = shim.get("/ready")
    shim.advance(10.1)
    assert (first.exit, answer.status) == (ServerExit(signal=9), 503)
    assert json.loads(answer.body)["state"] == "restarting"
    shim.automatic["tools/list"] = {"result": {"tools": []}}
    shim.advance(1.1)
    assert state(shim) == "ready"


def test_a_server_that_works_for_a_client_need_not_answer_a_probe(make: Make):
    shim = make(isolation="shared", limits={"probe_timeout_seconds": 10})
    shim.modern("tools/call", {"name": "slow"})
    shim.advance(31)
    del shim.automatic["tools/list"]
    answer = shim.get("/ready")
    shim.advance(10.1)
    assert (answer.status, shim.server.exit) == (200, None)


def test_a_server_that_exits_at_a_probe_is_reported_with_its_exit(make: Make):
    shim = make()
    shim.advance(31)
    answer = shim.get("/ready")
    shim.server.exit_with(ServerExit(code=5))
    body = json.loads(answer.body)
    assert (answer.status, body["state"], body["exit_code"]) == (503, "restarting", 5)


# Tools.


def test_all_pages_of_the_tool_list_are_read(make: Make):
    shim = make(start=False)
    shim.automatic["tools/list"] = None
    shim.settle()
    server = shim.servers[0]
    server.answer(server.calls[-1], {"tools": [{"name": "a"}, "odd"], "nextCursor": "2"})
    assert server.calls[-1]["params"] == {"cursor": "2"}
    server.answer(server.calls[-1], {"tools": [{"name": "b"}]})
    assert ([tool["name"] for tool in shim.server_info.tools], state(shim)) == (["a", "b"], "ready")


def test_a_cursor_that_repeats_ends_the_list(make: Make):
    shim = make(start=False)
    shim.automatic["tools/list"] = {"result": {"tools": [{"name": "a"}], "nextCursor": "same"}}
    shim.settle()
    assert shim.server.methods().count("tools/list") == 2
    assert len(shim.server_info.tools) == 2


def test_a_list_without_end_is_read_up_to_a_number_of_pages(make: Make):
    shim = make(start=False)
    shim.automatic["tools/list"] = None
    shim.settle()
    server = shim.servers[0]
    for n in range(MAX_PAGES):
        server.answer(server.calls[-1], {"tools": [{"name": str(n)}], "nextCursor": f"c{n}"})
    assert (len(shim.server_info.tools), state(shim)) == (MAX_PAGES, "ready")


@pytest.mark.parametrize("answer", [{"error": {"code": 1, "message": "no"}}, {"result": {"tools": 1}}, {"result": []}])
def test_when_the_list_can_not_be_read_the_one_before_stays(make: Make, answer: dict[str, Any]):
    shim = make(isolation="shared")
    shim.automatic["tools/list"] = answer
    shim.server.notify("notifications/tools/list_changed")
    shim.advance(0.6)
    assert shim.server.methods().count("tools/list") == 2
    assert shim.server_info.tools == TOOLS


def test_a_changed_list_is_read_again_once_for_a_burst(make: Make):
    shim = make(isolation="shared")
    shim.automatic["tools/list"] = {"result": {"tools": [{"name": "new"}]}}
    for _ in range(5):
        shim.server.notify("notifications/tools/list_changed")
    shim.server.notify("notifications/prompts/list_changed")
    shim.advance(0.49)
    assert shim.server_info.tools == TOOLS
    shim.advance(0.02)
    assert (shim.server_info.tools, shim.server.methods().count("tools/list")) == ([{"name": "new"}], 2)
    shim.server.notify("notifications/tools/list_changed")
    shim.advance(0.6)
    assert shim.server.methods().count("tools/list") == 3


def test_a_server_that_exits_before_its_tools_are_read_again_is_not_asked(make: Make):
    shim = make(isolation="shared")
    shim.server.notify("notifications/tools/list_changed")
    shim.server.exit_with()
    shim.advance(0.51)
    assert "a bug" not in "".join(shim.servers[0].tail.lines)


# Spares and idle processes.


@pytest.mark.parametrize(("isolation", "spares"), [("session", 1), ("request", 1), ("shared", 0)])
def test_spares_are_started_once_the_server_is_ready(make: Make, isolation: str, spares: int):
    shim = make(isolation=isolation)
    assert len(shim.running) == 1 + spares


def test_spares_for_sessions_are_not_spoken_to_and_spares_for_calls_are_initialized(make: Make):
    assert make(isolation="session").servers[1].received == []
    assert make(isolation="request").servers[1].methods() == ["initialize", "notifications/initialized"]


def test_as_many_spares_as_configured_are_kept(make: Make):
    shim = make(isolation="session", limits={"spares": 3})
    assert len(shim.running) == 4
    shim.session()
    assert len(shim.running) == 5


def test_no_spares_are_started_beyond_the_number_of_processes(make: Make):
    shim = make(isolation="session", limits={"spares": 5, "children": 3})
    assert len(shim.running) == 3


def test_spares_that_nobody_uses_are_stopped_and_come_back_with_the_next_session(make: Make):
    shim = make(isolation="session", limits={"spare_idle_seconds": 100})
    idle = shim.get("/health")
    shim.advance(99)
    assert len(shim.running) == 2
    shim.advance(2)
    assert (len(shim.running), shim.servers[1].stopped, idle.status) == (1, True, 200)
    shim.session()
    assert len(shim.running) == 3


def test_spares_are_kept_for_ever_if_configured_so(make: Make):
    shim = make(isolation="session", limits={"spare_idle_seconds": 0})
    shim.get("/health")
    shim.advance(100_000)
    assert len(shim.running) == 2


def test_extra_processes_that_nobody_uses_are_stopped_but_not_those_with_calls(make: Make):
    shim = make(isolation="session", limits={"spare_idle_seconds": 100, "spares": 0})
    busy = leased(shim)
    other = shim.modern("tools/call", {"name": "b"}, id=2, capabilities={"sampling": {}})
    (extra,) = [server for server in shim.running if server is not shim.server]
    shim.advance(200)
    assert not extra.stopped
    extra.answer(extra.calls[-1], RESULT)
    shim.advance(200)
    assert (extra.stopped, other.ended, busy.status) == (True, True, 200)


def leased(shim: Shim) -> Client:
    """A suspended call that has the main process for itself."""
    call = shim.modern("tools/call", {"name": "a"}, capabilities={"sampling": {}})
    shim.server.request("q", "sampling/createMessage")
    shim.advance(0.02)
    return call


# Isolation request.


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_a_process_that_does_not_get_ready_fails_its_call(make: Make, era: str):
    shim = make(isolation="request", era=era, start_seconds=20, limits={"spares": 0})
    for name in ("initialize", "server/discover"):
        shim.automatic.pop(name, None)
    call = shim.modern("tools/call", {"name": "x"})
    shim.advance(20.1)
    message = "cannot start another server: it did not begin to speak MCP within 20 s; nothing was started"
    assert (call.error["message"], shim.servers[-1].stopped) == (message, True)


def test_a_process_that_exits_before_it_is_ready_fails_its_call(make: Make):
    shim = make(isolation="request", limits={"spares": 0})
    del shim.automatic["initialize"]
    call = shim.modern("tools/call", {"name": "x"})
    shim.servers[-1].exit_with(ServerExit(code=4))
    message = "cannot start another server: it exited with code 4 before it spoke MCP; nothing was started"
    assert (call.status, call.error["message"]) == (503, message)


def test_a_process_that_is_no_mcp_server_fails_its_call(make: Make):
    shim = make(isolation="request", limits={"spares": 0})
    shim.automatic["initialize"] = {"error": {"code": 1, "message": "no"}}
    call = shim.modern("tools/call", {"name": "x"})
    assert "cannot start another server: it answered initialize with an error" in call.error["message"]


# The end.


def test_a_closed_pool_starts_nothing(make: Make):
    shim = make(isolation="session")
    shim.loop.run_until_complete(shim.app.pool.close())
    assert (shim.running, state(shim)) == ([], "draining")
    with pytest.raises(Failure, match="the shim is stopping"):
        shim.loop.run_until_complete(shim.app.pool.start())
    with pytest.raises(Failure, match="the shim is stopping"):
        shim.loop.run_until_complete(shim.app.pool.wait_for_main())


def test_a_server_that_is_starting_when_the_pool_closes_is_stopped(make: Make):
    shim = make(start=False)
    del shim.automatic["initialize"]
    shim.settle()
    shim.loop.run_until_complete(shim.app.pool.close())
    assert (shim.servers[0].stopped, state(shim)) == (True, "draining")
    shim.advance(60)
    assert len(shim.servers) == 1
