"""JSON-RPC with one server: what becomes of each line that it writes, and of each call that was sent to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.shim.in_process import FakeServer, Shim

from mcpmesh.shim.errors import Failure
from mcpmesh.shim.server import peer as peers
from mcpmesh.shim.server.channel import ServerExit
from mcpmesh.shim.server.peer import AwaitedRequest, Peer, PendingRequest, exit_failure

Make = Callable[..., Shim]


class Call(PendingRequest):
    """A client's call that remembers what became of it."""

    __slots__ = ("asks", "log", "work")

    def __init__(self, works_for_client: bool = True, may_ask_client: bool = True) -> None:
        super().__init__()
        self.work = works_for_client
        self.asks = may_ask_client
        self.log: list[Any] = []

    @property
    def works_for_client(self) -> bool:
        return self.work

    @property
    def may_ask_client(self) -> bool:
        return self.asks

    def answered(self, message: Any) -> None:
        self.log.append(json.loads(bytes(message.result or message.error)))

    def failed(self, failure: Failure) -> None:
        self.log.append(failure.reason)

    def progressed(self, params: Any) -> None:
        self.log.append(json.loads(bytes(params)))


class Listener:
    """Remembers what a server sent on its own account."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def server_request(self, _peer: Peer, message: Any) -> None:
        self.log.append((message.id, message.method))

    def server_notification(self, _peer: Peer, message: Any) -> None:
        self.log.append(message.method)

    def server_exited(self, _peer: Peer, exit: ServerExit) -> None:
        self.log.append(exit)


class Server:
    """A peer, its fake server, and calls 1, 2, … that are in flight there."""

    def __init__(self, shim: Shim, calls: int = 1) -> None:
        self.shim = shim
        self.fake = FakeServer(shim.loop, shim.era, {})
        self.peer = Peer(self.fake, shim.context, 1)
        self.listener = self.peer.listener = Listener()
        self.calls = [Call() for _ in range(calls)]
        for call in self.calls:
            self.peer.send(call, "tools/call", b"{}")

    def says(self, line: bytes | dict[str, Any]) -> None:
        self.fake.send(line)


@pytest.fixture
def shim(make: Make) -> Shim:
    return make(isolation="shared", limits={"calls_per_child": 3, "stdin_bytes": 100})


def test_each_call_gets_an_id_of_the_shims_own(shim: Shim):
    server = Server(shim, calls=2)
    assert server.fake.received == [
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {}},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {}},
    ]


def test_answers_find_their_calls_in_any_order(shim: Shim):
    server = Server(shim, calls=2)
    server.says({"id": 2, "result": {"b": 1}})
    server.says({"id": 1, "error": {"code": 1, "message": "no"}})
    assert [call.log for call in server.calls] == [[{"code": 1, "message": "no"}], [{"b": 1}]]
    assert server.peer.calls == {}


@pytest.mark.parametrize("id", ['"1"', "1.0", "true", "0", "2", "-1"])
def test_an_answer_with_another_id_is_dropped_and_counted(shim: Shim, id: str):
    server = Server(shim)
    server.says(b'{"jsonrpc":"2.0","id":%b,"result":{}}' % id.encode())
    assert (server.calls[0].log, list(server.peer.calls)) == ([], [1])
    assert shim.events.keys() & {"stray_messages", "rubbish_lines"}


def test_a_second_answer_is_dropped_and_counted(shim: Shim):
    server = Server(shim)
    server.says({"id": 1, "result": {"n": 1}})
    server.says({"id": 1, "result": {"n": 2}})
    assert (server.calls[0].log, shim.events["stray_messages"]) == ([{"n": 1}], 1)


def test_a_message_with_a_calls_id_that_is_no_answer_leaves_the_call_in_flight(shim: Shim):
    server = Server(shim)
    server.says({"id": 1})
    assert (server.calls[0].log, shim.events["stray_messages"]) == ([], 1)
    server.says({"id": 1, "result": {}})
    assert server.calls[0].log == [{}]


def test_an_error_without_an_id_is_shown(shim: Shim):
    server = Server(shim)
    server.says({"id": None, "error": {"code": -32700, "message": "Parse error"}})
    (shown,) = server.peer.tail.lines
    assert (shown[:27], shim.events["stray_messages"]) == ('{"jsonrpc":"2.0","id":null,', 1)


def test_the_time_of_an_answer_is_kept_but_not_of_anything_else(shim: Shim):
    server = Server(shim)
    server.says({"method": "notifications/x"})
    server.says({"id": 7, "result": {}})
    assert server.peer.last_answer == 0.0
    server.says({"id": 1, "result": {}})
    assert server.peer.last_answer == shim.loop.time()


# Invalid lines.


@pytest.mark.parametrize("line", [b"Listening on stdio", b"[]", b'{"jsonrpc":"2.0","id":1.5,"result":{}}', b'{"id":'])
def test_a_line_that_is_no_message_is_counted_and_shown(shim: Shim, line: bytes):
    server = Server(shim)
    server.says(line)
    assert (shim.events["rubbish_lines"], list(server.peer.tail.lines)) == (1, [line.decode()])


@pytest.mark.parametrize("line", [b"", b"   ", b"\r"])
def test_a_blank_line_is_ignored(shim: Shim, line: bytes):
    server = Server(shim)
    server.says(line)
    assert (shim.events.get("rubbish_lines"), list(server.peer.tail.lines)) == (None, [])


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":1,"result":{"text":broken}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"text":broken}}',
        b'{"result":{"text":broken},"jsonrpc":"2.0","id":1}',
    ],
)
def test_an_answer_that_can_not_be_read_fails_its_call_alone(shim: Shim, line: bytes):
    server = Server(shim, calls=2)
    server.says(line)
    assert [call.log for call in server.calls] == [["answer-unreadable"], []]


def test_an_answer_that_turns_out_unreadable_late_fails_its_call(shim: Shim):
    session = shim.session()
    shim.automatic.clear()
    shim.era = "2026-07-28"
    shim.app.pool.main.modern = True
    call = session.call("x")
    sent = shim.server.calls[-1]["id"]
    shim.server.send(
        b'{"jsonrpc":"2.0","id":%d,"result":{"resultType":"input_required","inputRequests":{"a":[]}}}' % sent
    )
    assert (call.error["data"]["reason"], shim.events["rubbish_lines"]) == ("answer-unreadable", 1)


def test_a_request_with_a_null_id_is_no_message(shim: Shim):
    server = Server(shim)
    server.says({"id": None, "method": "ping"})
    assert (server.listener.log, shim.events["rubbish_lines"]) == ([], 1)


# Server requests and notifications.


def test_requests_and_notifications_go_to_the_listener(shim: Shim):
    server = Server(shim)
    server.says({"id": "a", "method": "ping"})
    server.says({"method": "notifications/x"})
    assert server.listener.log == [("a", "ping"), "notifications/x"]
    server.peer.listener = None
    server.says({"id": "a", "method": "ping"})
    server.says({"method": "notifications/x"})
    assert len(server.listener.log) == 2


def test_progress_goes_to_the_call_that_its_token_names(shim: Shim):
    server = Server(shim, calls=2)
    params = {"progressToken": 2, "progress": 0.5}
    server.says({"method": "notifications/progress", "params": params})
    assert [call.log for call in server.calls] == [[], [params]]
    assert server.listener.log == []


@pytest.mark.parametrize(
    "params", [{}, {"progressToken": 3}, {"progressToken": "1"}, {"progressToken": True}, [], None]
)
def test_progress_for_no_call_is_counted(shim: Shim, params: Any):
    server = Server(shim)
    server.says({"method": "notifications/progress", **({} if params is None else {"params": params})})
    assert (server.calls[0].log, shim.events["stray_messages"]) == ([], 1)


def test_a_server_that_does_not_read_gets_no_answers_of_the_shims_own(shim: Shim):
    server = Server(shim)
    server.fake.waiting_bytes = 101
    server.peer.refuse("a", -1, "no")
    server.peer.answer_from_shim("b", b"{}")
    assert (server.fake.answers(), shim.events["unread_answers"]) == ({}, 2)
    server.fake.waiting_bytes = 100
    server.peer.refuse("a", -1, "no")
    server.peer.answer_from_shim("b", b"{}")
    assert server.fake.answers() == {"a": {"code": -1, "message": "no"}, "b": {}}


def test_an_answer_is_one_line_whatever_the_client_wrote(shim: Shim):
    server = Server(shim)
    server.peer.answer("a", b'{\n"x":\r\n1}')
    server.peer.answer_error("b", b'{"code":1,\n"message":"no"}')
    assert server.fake.answers() == {"a": {"x": 1}, "b": {"code": 1, "message": "no"}}


# Bounds.


def test_a_server_takes_no_more_calls_than_the_limit(shim: Shim):
    server = Server(shim, calls=3)
    with pytest.raises(Failure, match="cannot take the call: 3 are in flight already") as refused:
        server.peer.send(Call(), "tools/call", b"")
    assert (refused.value.reason, refused.value.status) == ("busy", 503)
    server.says({"id": 2, "result": {}})
    server.peer.send(Call(), "tools/call", b"")
    assert server.fake.received[-1]["id"] == 4


def test_a_server_that_does_not_read_takes_no_calls(shim: Shim):
    server = Server(shim, calls=0)
    server.fake.waiting_bytes = 101
    for call in (Call(), shim.loop.run_until_complete(_awaited())):
        with pytest.raises(Failure, match="does not read its input fast enough") as refused:
            server.peer.send(call, "tools/call", b"")
        assert (refused.value.reason, refused.value.status) == ("server-stalled", 503)
    server.fake.waiting_bytes = 100
    server.peer.send(Call(), "tools/call", b"")


def test_the_shims_own_requests_do_not_count_against_the_limit_of_calls(shim: Shim):
    server = Server(shim, calls=3)
    server.peer.send(shim.loop.run_until_complete(_awaited()), "ping", b"")
    assert server.fake.methods()[-1] == "ping"


async def _awaited() -> AwaitedRequest:
    return AwaitedRequest()


def test_a_server_that_exited_or_is_being_stopped_takes_no_calls(shim: Shim):
    stopping, exited = Server(shim, calls=0), Server(shim, calls=0)
    stopping.peer.stopping = True
    exited.fake.exit_with()
    for server in (stopping, exited):
        assert not server.peer.alive
        with pytest.raises(Failure, match="the server is stopping") as refused:
            server.peer.send(Call(), "tools/call", b"")
        assert (refused.value.reason, refused.value.status, server.fake.received) == ("stopping", 503, [])


# Cancelled and forgotten calls.


def test_a_cancelled_call_is_told_to_the_server_once_and_its_answer_is_dropped(shim: Shim):
    server = Server(shim)
    server.peer.cancel(server.calls[0], "too late")
    server.peer.cancel(server.calls[0], "too late")
    cancel = {"method": "notifications/cancelled", "params": {"requestId": 1, "reason": "too late"}}
    assert server.fake.received[1:] == [{"jsonrpc": "2.0", **cancel}]
    server.says({"id": 1, "result": {}})
    assert (server.calls[0].log, shim.events.get("stray_messages")) == ([], None)


def test_an_answer_on_its_way_when_the_call_is_cancelled_is_dropped(shim: Shim):
    server = Server(shim)
    shim.loop.call_soon(server.peer.cancel, server.calls[0], "too late")
    server.says({"id": 1, "result": {}})
    assert (server.calls[0].log, server.fake.cancelled()) == ([], [1])
    assert not server.peer.has_abandoned_calls


def test_a_cancel_on_its_way_when_the_answer_comes_changes_nothing(shim: Shim):
    server = Server(shim)
    server.says({"id": 1, "result": {}})
    server.peer.cancel(server.calls[0], "too late")
    assert (server.calls[0].log, server.fake.cancelled()) == ([{}], [])
    assert not server.peer.has_abandoned_calls


def test_a_forgotten_call_is_not_told_to_the_server_and_its_answer_is_counted(shim: Shim):
    server = Server(shim)
    server.peer.forget(server.calls[0])
    server.peer.forget(server.calls[0])
    server.says({"id": 1, "result": {}})
    assert (server.fake.methods(), server.calls[0].log, shim.events["stray_messages"]) == (["tools/call"], [], 1)


def test_a_call_that_was_given_up_is_settled_by_its_result_but_not_by_an_error(shim: Shim):
    server = Server(shim)
    server.peer.cancel(server.calls[0], "too late")
    assert server.peer.has_abandoned_calls
    assert server.peer.has_recently_abandoned_calls
    server.says({"id": 1, "error": {"code": 0, "message": "cancelled"}})
    assert server.peer.has_abandoned_calls
    assert not server.peer.has_recently_abandoned_calls
    server.says({"id": 1, "result": {}})
    assert not server.peer.has_abandoned_calls


def test_a_call_that_can_ask_nothing_leaves_no_server_requests_behind(shim: Shim):
    server = Server(shim, calls=0)
    call = Call(may_ask_client=False)
    server.peer.send(call, "tools/list", b"")
    server.peer.cancel(call, "too late")
    assert not server.peer.has_abandoned_calls
    assert server.peer.has_recently_abandoned_calls


def test_after_a_while_an_unanswered_call_logs_no_more(shim: Shim):
    server = Server(shim, calls=2)
    server.peer.cancel(server.calls[0], "too late")
    shim.advance(29.9)
    assert server.peer.has_recently_abandoned_calls
    shim.advance(0.2)
    assert not server.peer.has_recently_abandoned_calls
    assert server.peer.has_abandoned_calls
    server.peer.cancel(server.calls[1], "too late")
    assert server.peer.has_recently_abandoned_calls
    server.peer.settle(2)
    assert not server.peer.has_recently_abandoned_calls


def test_abandoned_calls_beyond_the_bound_are_never_settled(shim: Shim, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers, "MAX_ABANDONED", 2)
    server = Server(shim, calls=3)
    for call in server.calls:
        server.peer.cancel(call, "too late")
    for id in (1, 2, 3):
        server.says({"id": id, "result": {}})
    assert server.peer.has_abandoned_calls
    assert list(server.peer.abandoned) == [0]


def test_one_call_beyond_the_bound_that_may_ask_counts_for_all(shim: Shim, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers, "MAX_ABANDONED", 0)
    server = Server(shim, calls=1)
    quiet = Call(may_ask_client=False)
    server.peer.send(quiet, "tools/list", b"")
    server.peer.cancel(server.calls[0], "too late")
    server.peer.cancel(quiet, "too late")
    assert server.peer.abandoned == {0: True}


# Lines over the limit.


def test_a_line_over_the_limit_fails_the_call_that_it_answers(shim: Shim):
    server = Server(shim, calls=2)
    server.fake.on_oversize(b'{"jsonrpc":"2.0","id":2,"result":{', b"}}", 5_000)
    assert [call.log for call in server.calls] == [[], ["answer-too-long"]]
    assert (list(server.peer.calls), shim.events["oversize_lines"]) == ([1], 1)


def test_a_line_over_the_limit_settles_an_abandoned_call(shim: Shim):
    server = Server(shim)
    server.peer.cancel(server.calls[0], "too late")
    server.fake.on_oversize(b'{"jsonrpc":"2.0","id":1,"result":{', b"}}", 5_000)
    assert (server.calls[0].log, server.peer.has_abandoned_calls) == ([], False)


def test_a_line_over_the_limit_of_which_the_call_is_unknown_fails_all_calls(shim: Shim):
    server = Server(shim, calls=2)
    quiet = Call(works_for_client=False)
    server.peer.send(quiet, "subscriptions/listen", b"")
    server.fake.on_oversize(b'{"result":{', b"}}", 5_000)
    assert [call.log for call in (*server.calls, quiet)] == [["answer-too-long"]] * 3
    assert (server.peer.calls, server.fake.cancelled()) == ({}, [1, 2])


def test_a_server_request_over_the_limit_is_refused(shim: Shim):
    server = Server(shim)
    server.fake.on_oversize(b'{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage",', b"}", 5_000)
    limit = shim.config.limits.line_bytes
    error = {"code": -32600, "message": f"the request is 5000 bytes long, over {limit}"}
    assert (server.fake.answers(), server.calls[0].log) == ({"q": error}, [])


def test_a_notification_over_the_limit_is_dropped(shim: Shim):
    server = Server(shim)
    server.fake.on_oversize(b'{"jsonrpc":"2.0","method":"notifications/x",', b"}", 5_000)
    assert (server.calls[0].log, server.fake.answers(), shim.events["oversize_lines"]) == ([], {}, 1)


# The exit.


def test_when_the_server_exits_every_call_fails_at_once_and_then_the_listener_hears_of_it(shim: Shim):
    server = Server(shim, calls=2)
    server.fake.exit_with(ServerExit(code=3))
    assert [call.log for call in server.calls] == [["server-exited"]] * 2
    assert (server.listener.log, server.peer.calls, server.peer.listener) == ([ServerExit(code=3)], {}, None)


def test_the_failure_says_whether_the_call_may_have_taken_effect():
    ran = exit_failure(ServerExit(signal=9))
    assert ran.data == {"reason": "server-exited", "started": True, "exitCode": None, "signal": 9}
    assert "was killed by signal 9 (SIGKILL) before it answered" in ran.message
    never = exit_failure(ServerExit(error="could not be started (Exec format error)", ran=False))
    assert (never.status, never.data) == (503, {"reason": "failed", "started": False})
    assert never.message == "the server could not be started (Exec format error); nothing was started"


# The shim's own requests.


def test_the_shims_own_request_returns_the_answer_or_raises(shim: Shim):
    server = Server(shim, calls=0)
    answered = shim.loop.create_task(server.peer.ask("ping", {"a": 1}))
    shim.settle()
    server.fake.answer(server.fake.calls[-1], {"b": 2})
    assert bytes(answered.result().result) == b'{"b":2}'
    late = shim.loop.create_task(server.peer.ask("ping", timeout=5))
    shim.advance(6)
    assert isinstance(late.exception(), TimeoutError)
    assert server.peer.calls == {}
    lost = shim.loop.create_task(server.peer.ask("ping"))
    shim.settle()
    server.fake.exit_with()
    assert isinstance(lost.exception(), Failure)
    assert [message.get("params") for message in server.fake.received] == [{"a": 1}, None, None]


def test_a_request_whose_waiter_is_gone_takes_an_answer_or_a_failure_without_complaint(shim: Shim):
    request = shim.loop.run_until_complete(_awaited())
    request.future.cancel()
    request.answered(object())
    request.failed(exit_failure(ServerExit(code=1)))
    assert request.future.cancelled()


# Readers that do not keep up.


def test_a_server_is_read_again_once_every_slow_reader_has_caught_up(shim: Shim):
    server = Server(shim, calls=0)
    server.peer.pause_for("a")
    server.peer.pause_for("b")
    server.peer.pause_for("a")
    server.peer.resume_for("a")
    assert server.fake.paused
    server.peer.resume_for("stranger")
    assert server.fake.paused
    server.peer.resume_for("b")
    assert not server.fake.paused


def test_whether_the_server_works_for_clients(shim: Shim):
    server = Server(shim, calls=0)
    server.peer.send(Call(works_for_client=False), "subscriptions/listen", b"")
    assert not server.peer.works_for_clients
    server.peer.send(Call(), "tools/call", b"")
    assert server.peer.works_for_clients
