"""Change notifications: who subscribed to what, and who gets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.shim.in_process import LEGACY, META, MODERN, Client, FakeServer, Shim

Make = Callable[..., Shim]
SUBSCRIPTION = f"{META}subscriptionId"
UPDATED = "notifications/resources/updated"
TOOLS_CHANGED = "notifications/tools/list_changed"
RESOURCES_CHANGED = "notifications/resources/list_changed"
ALL_LISTS = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


@pytest.fixture
def shim(make: Make) -> Shim:
    """A legacy server that takes subscriptions."""
    shim = make(isolation="shared")
    shim.automatic |= {"resources/subscribe": {"result": {}}, "resources/unsubscribe": {"result": {}}}
    return shim


@pytest.fixture
def modern(make: Make) -> Shim:
    return make(isolation="shared", era=MODERN)


def listen(shim: Shim, id: Any = "s", **filter: Any) -> Client:
    """A modern client's subscriptions/listen."""
    return shim.modern("subscriptions/listen", {"notifications": filter}, id=id)


def changes(server: FakeServer) -> list[tuple[str, str]]:
    """The subscriptions that a legacy server was asked to make and to end."""
    return [
        (message["method"].removeprefix("resources/"), message["params"]["uri"])
        for message in server.received
        if message.get("method") in ("resources/subscribe", "resources/unsubscribe")
    ]


def listens(server: FakeServer) -> list[dict[str, Any]]:
    """The shim's own listens at a modern server."""
    return [message for message in server.received if message.get("method") == "subscriptions/listen"]


# A modern client's listen at a legacy server.


def test_a_listen_is_acknowledged_with_what_the_server_supports(shim: Shim):
    stream = listen(shim, id=7, **ALL_LISTS, resourceSubscriptions=["a:1", 5], other=True)
    assert stream.messages == [
        {
            "jsonrpc": "2.0",
            "method": "notifications/subscriptions/acknowledged",
            "params": {
                "notifications": {
                    "toolsListChanged": True,
                    "resourcesListChanged": True,
                    "resourceSubscriptions": ["a:1"],
                },
                "_meta": {SUBSCRIPTION: 7},
            },
        }
    ]
    assert changes(shim.server) == [("subscribe", "a:1")]
    assert shim.app.connections.in_flight == 0


def test_only_what_the_server_offers_and_the_client_asked_for_is_acknowledged(make: Make):
    shim = make(isolation="shared", capabilities={"tools": {}, "resources": {"listChanged": True}})
    stream = listen(shim, toolsListChanged=True, resourcesListChanged=False, resourceSubscriptions=["a:1"])
    assert stream.messages[0]["params"]["notifications"] == {}


def test_the_acknowledgement_waits_until_the_server_is_subscribed(shim: Shim):
    del shim.automatic["resources/subscribe"]
    stream = listen(shim, resourceSubscriptions=["a:1"], toolsListChanged=True)
    shim.server.notify(TOOLS_CHANGED)
    assert stream.messages == []
    shim.server.answer(shim.server.calls[-1])
    assert [message["method"] for message in stream.messages] == ["notifications/subscriptions/acknowledged"]


@pytest.mark.parametrize("params", [{}, {"notifications": []}, {"notifications": None}])
def test_a_listen_without_a_filter_is_refused(shim: Shim, params: dict[str, Any]):
    refused = shim.modern("subscriptions/listen", params)
    assert (refused.status, refused.error["message"]) == (400, "params.notifications must be an object")


def test_changes_go_to_those_who_asked_for_them_with_their_own_subscription(shim: Shim):
    tools = listen(shim, id="t", toolsListChanged=True)
    one = listen(shim, id="r", resourceSubscriptions=["a:1"])
    shim.server.notify(TOOLS_CHANGED)
    shim.server.notify(RESOURCES_CHANGED)
    shim.server.notify(UPDATED, {"uri": "a:1", "title": "x"})
    shim.server.notify(UPDATED, {"uri": "a:2"})
    assert tools.messages[1:] == [{"jsonrpc": "2.0", "method": TOOLS_CHANGED, "params": {"_meta": {SUBSCRIPTION: "t"}}}]
    updated = {"uri": "a:1", "title": "x", "_meta": {SUBSCRIPTION: "r"}}
    assert one.messages[1:] == [{"jsonrpc": "2.0", "method": UPDATED, "params": updated}]


@pytest.mark.parametrize(("method", "params"), [("notifications/odd", {}), (UPDATED, {}), (UPDATED, {"uri": 3})])
def test_a_notification_that_is_no_change_is_dropped_and_counted(shim: Shim, method: str, params: Any):
    stream = listen(shim, **ALL_LISTS)
    shim.server.notify(method, params)
    assert (len(stream.messages), shim.events["dropped_notifications"]) == (1, 1)


def test_when_the_client_leaves_the_server_is_unsubscribed_unless_another_wants_the_same(shim: Shim):
    streams = [listen(shim, resourceSubscriptions=["a:1"]) for _ in range(2)]
    streams[0].leave()
    assert changes(shim.server) == [("subscribe", "a:1")]
    streams[1].leave()
    assert changes(shim.server) == [("subscribe", "a:1"), ("unsubscribe", "a:1")]
    assert shim.outcomes == {("modern", "subscriptions/listen", "cancelled"): 2}


def test_when_the_server_exits_listens_end_gracefully_and_clients_subscribe_again(shim: Shim):
    stream = listen(shim, id="s", resourceSubscriptions=["a:1"])
    shim.server.exit_with()
    end = {"resultType": "complete", "_meta": {SUBSCRIPTION: "s"}}
    assert (stream.messages[-1], stream.ended) == ({"jsonrpc": "2.0", "id": "s", "result": end}, True)
    shim.advance(1)
    assert changes(shim.server) == []
    listen(shim, resourceSubscriptions=["a:1"])
    assert changes(shim.server) == [("subscribe", "a:1")]
    assert shim.outcomes[("modern", "subscriptions/listen", "ok")] == 1


# Legacy sessions at a legacy server.


def test_a_session_is_answered_once_the_server_is_subscribed(shim: Shim):
    del shim.automatic["resources/subscribe"]
    session = shim.session()
    answer = session.request("resources/subscribe", {"uri": "a:1"})
    assert answer.status == 0
    shim.server.answer(shim.server.calls[-1])
    assert (answer.result, shim.outcomes[("legacy", "resources/subscribe", "ok")]) == ({}, 1)


def test_a_refusal_of_the_server_is_passed_on_and_forgotten(shim: Shim):
    error = {"code": -32002, "message": "no such resource"}
    shim.automatic["resources/subscribe"] = {"error": error}
    session = shim.session()
    for _ in range(2):
        answer = session.request("resources/subscribe", {"uri": "a:1"})
        assert (answer.error, shim.server.methods()[-1]) == (error, "resources/subscribe")
    assert changes(shim.server) == [("subscribe", "a:1")] * 2
    assert shim.outcomes[("legacy", "resources/subscribe", "error")] == 2


def test_one_subscription_of_the_server_serves_all_sessions(shim: Shim):
    sessions = [shim.session() for _ in range(2)]
    streams = [session.listen() for session in sessions]
    for session in sessions:
        assert session.request("resources/subscribe", {"uri": "a:1"}).result == {}
    assert changes(shim.server) == [("subscribe", "a:1")]
    shim.server.notify(UPDATED, {"uri": "a:1"})
    assert [[message["params"] for message in stream.messages] for stream in streams] == [[{"uri": "a:1"}]] * 2
    sessions[0].request("resources/unsubscribe", {"uri": "a:1"})
    shim.server.notify(UPDATED, {"uri": "a:1"})
    assert [len(stream.messages) for stream in streams] == [1, 2]
    assert changes(shim.server) == [("subscribe", "a:1")]
    sessions[1].delete()
    assert changes(shim.server) == [("subscribe", "a:1"), ("unsubscribe", "a:1")]


@pytest.mark.parametrize("params", [{}, {"uri": 3}, None])
def test_a_subscription_without_a_uri_is_refused(shim: Shim, params: Any):
    refused = shim.session().request("resources/subscribe", params)
    assert refused.error == {"code": -32602, "message": "params.uri is missing"}
    assert shim.outcomes[("legacy", "resources/subscribe", "error")] == 1


def test_a_session_gets_changes_of_lists_once_it_is_initialized(shim: Shim):
    session = shim.session()
    stream = session.listen()
    shim.server.notify(TOOLS_CHANGED)
    assert stream.messages == []
    session.notify("notifications/initialized")
    shim.server.notify(TOOLS_CHANGED)
    assert stream.messages == [{"jsonrpc": "2.0", "method": TOOLS_CHANGED}]


def test_the_next_process_is_subscribed_to_what_sessions_want(shim: Shim):
    session = shim.session()
    session.request("resources/subscribe", {"uri": "a:1"})
    shim.server.exit_with()
    shim.advance(1)
    assert changes(shim.server) == [("subscribe", "a:1")]
    stream = session.listen()
    shim.server.notify(UPDATED, {"uri": "a:1"})
    assert len(stream.messages) == 1


def test_a_server_that_does_not_answer_a_subscription_holds_it_up_for_a_while_only(shim: Shim):
    del shim.automatic["resources/subscribe"]
    answer = shim.session().request("resources/subscribe", {"uri": "a:1"})
    shim.advance(29)
    assert not answer.ended
    shim.advance(1.5)
    assert answer.result == {}


# A modern client's listen at a modern server.


def test_a_listen_is_relayed_with_both_ids_replaced(modern: Shim):
    stream = listen(modern, id="mine", toolsListChanged=True)
    sent = listens(modern.server)[-1]
    assert sent["params"]["notifications"] == {"toolsListChanged": True}
    acknowledged = {"_meta": {SUBSCRIPTION: sent["id"], "x": 1}, "notifications": {}}
    modern.server.notify("notifications/subscriptions/acknowledged", acknowledged)
    assert stream.messages[0]["params"] == {"_meta": {SUBSCRIPTION: "mine", "x": 1}, "notifications": {}}
    assert modern.app.connections.in_flight == 0
    modern.server.answer(sent, {"resultType": "complete", "_meta": {SUBSCRIPTION: sent["id"]}})
    assert stream.messages[-1]["result"] == {"resultType": "complete", "_meta": {SUBSCRIPTION: "mine"}}
    assert stream.ended


def test_a_notification_of_an_unknown_subscription_is_dropped_and_counted(modern: Shim):
    stream = listen(modern, id="mine")
    modern.server.notify(TOOLS_CHANGED, {"_meta": {SUBSCRIPTION: 999}})
    modern.server.notify(TOOLS_CHANGED, {"_meta": {SUBSCRIPTION: "1"}})
    modern.server.notify(TOOLS_CHANGED)
    assert (stream.messages, modern.events["dropped_notifications"]) == ([], 3)


def test_a_notification_that_names_a_call_is_no_subscriptions(modern: Shim):
    call = modern.modern("tools/call", {"name": "x"})
    modern.server.notify(TOOLS_CHANGED, {"_meta": {SUBSCRIPTION: modern.server.calls[-1]["id"]}})
    assert (call.status, modern.events["dropped_notifications"]) == (0, 1)


def test_a_client_that_leaves_cancels_its_listen_and_leaves_no_doubt_behind(modern: Shim):
    stream = listen(modern)
    sent = listens(modern.server)[-1]
    stream.leave()
    assert modern.server.cancelled() == [sent["id"]]
    assert modern.app.pool.main.abandoned == {}
    assert modern.outcomes == {("modern", "subscriptions/listen", "cancelled"): 1}


def test_a_server_that_takes_a_subscription_down_ends_it_gracefully(modern: Shim):
    stream = listen(modern, id="mine")
    sent = listens(modern.server)[-1]
    modern.server.notify("notifications/cancelled", {"requestId": sent["id"]})
    end = {"resultType": "complete", "_meta": {SUBSCRIPTION: "mine"}}
    assert stream.messages[-1] == {"jsonrpc": "2.0", "id": "mine", "result": end}
    modern.server.answer(sent)
    assert modern.events["stray_messages"] == 1


def test_an_error_before_the_acknowledgement_is_passed_on_and_one_after_it_is_an_end(modern: Shim):
    refused, broken = listen(modern, id="a"), listen(modern, id="b")
    first, second = listens(modern.server)[-2:]
    error = {"code": -32601, "message": "no"}
    modern.server.answer(first, error=error)
    assert (refused.status, refused.error) == (404, error)
    modern.server.notify("notifications/subscriptions/acknowledged", {"_meta": {SUBSCRIPTION: second["id"]}})
    modern.server.answer(second, error=error)
    assert broken.messages[-1]["result"]["resultType"] == "complete"


def test_when_a_modern_server_exits_listens_end_gracefully(modern: Shim):
    stream = listen(modern, id="mine")
    modern.server.exit_with()
    assert stream.messages[-1]["result"] == {"resultType": "complete", "_meta": {SUBSCRIPTION: "mine"}}
    assert modern.outcomes == {("modern", "subscriptions/listen", "ok"): 1}


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_a_listen_has_no_deadline(make: Make, era: str):
    shim = make(isolation="shared", era=era, request_seconds=10)
    stream = listen(shim, toolsListChanged=True)
    shim.advance(60)
    assert (stream.ended, shim.server.cancelled()) == (False, [])
    assert b": keep-alive" in stream.body


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_a_drain_ends_listens_at_once(make: Make, era: str):
    shim = make(isolation="shared", era=era)
    stream = listen(shim, id="mine", toolsListChanged=True)
    draining = shim.drain()
    assert (stream.ended, draining.done(), draining.result()) == (True, True, 0)


# The shim's own listen at a modern server.


def test_the_shim_listens_to_every_list_that_changes(make: Make):
    shim = make(isolation="shared", era=MODERN)
    assert [sent["params"]["notifications"] for sent in listens(shim.server)] == [
        {"toolsListChanged": True, "resourcesListChanged": True}
    ]


def test_without_lists_that_change_the_shim_does_not_listen(make: Make):
    shim = make(isolation="shared", era=MODERN, capabilities={"tools": {}})
    assert listens(shim.server) == []
    shim.session().notify("notifications/initialized")
    assert listens(shim.server) == []


def test_legacy_sessions_get_what_the_shim_hears_without_its_subscription(modern: Shim):
    session = modern.session()
    session.notify("notifications/initialized")
    stream = session.listen()
    own = listens(modern.server)[0]["id"]
    for method, params in (
        ("notifications/subscriptions/acknowledged", {"notifications": {}}),
        (TOOLS_CHANGED, {}),
        (RESOURCES_CHANGED, {"x": 1}),
    ):
        modern.server.notify(method, {**params, "_meta": {SUBSCRIPTION: own}})
    assert stream.messages == [
        {"jsonrpc": "2.0", "method": TOOLS_CHANGED},
        {"jsonrpc": "2.0", "method": RESOURCES_CHANGED, "params": {"x": 1}},
    ]


def test_other_metadata_of_a_change_stays(modern: Shim):
    session = modern.session()
    session.notify("notifications/initialized")
    stream = session.listen()
    meta = {SUBSCRIPTION: listens(modern.server)[0]["id"], "y": 2}
    modern.server.notify(TOOLS_CHANGED, {"_meta": meta})
    assert stream.messages[0]["params"] == {"_meta": {"y": 2}}


def test_a_changed_tool_list_is_read_again(modern: Shim):
    own = listens(modern.server)[0]["id"]
    before = modern.server.methods().count("tools/list")
    modern.server.notify(TOOLS_CHANGED, {"_meta": {SUBSCRIPTION: own}})
    modern.advance(0.6)
    assert modern.server.methods().count("tools/list") == before + 1


def test_another_uri_replaces_the_listen(modern: Shim):
    session = modern.session()
    assert session.request("resources/subscribe", {"uri": "b:1"}).result == {}
    session.request("resources/subscribe", {"uri": "a:1"})
    first, second, third = listens(modern.server)
    assert [sent["params"]["notifications"].get("resourceSubscriptions") for sent in (first, second, third)] == [
        None,
        ["b:1"],
        ["a:1", "b:1"],
    ]
    assert modern.server.cancelled() == [first["id"], second["id"]]
    assert modern.app.pool.main.abandoned == {}
    session.request("resources/subscribe", {"uri": "a:1"})
    assert len(listens(modern.server)) == 3


def test_a_listen_that_the_server_ends_is_sent_again_after_a_while(modern: Shim):
    modern.server.answer(listens(modern.server)[0])
    modern.advance(4.9)
    assert len(listens(modern.server)) == 1
    modern.advance(0.2)
    assert len(listens(modern.server)) == 2
    modern.server.notify("notifications/cancelled", {"requestId": listens(modern.server)[1]["id"]})
    modern.advance(5.1)
    assert len(listens(modern.server)) == 3


def test_a_server_without_subscriptions_is_not_asked_again_until_something_else_is_wanted(modern: Shim):
    modern.server.answer(listens(modern.server)[0], error={"code": -32601, "message": "no"})
    session = modern.session()
    session.notify("notifications/initialized")
    modern.advance(60)
    assert len(listens(modern.server)) == 1
    session.request("resources/subscribe", {"uri": "a:1"})
    assert len(listens(modern.server)) == 2


def test_a_listen_that_could_not_be_sent_is_sent_later(make: Make):
    shim = make(isolation="shared", era=MODERN, limits={"calls_per_child": 1}, capabilities={"resources": {}})
    shim.modern("tools/call", {"name": "x"})
    shim.session().request("resources/subscribe", {"uri": "a:1"})
    assert listens(shim.server) == []
    shim.server.answer(shim.server.calls[-1], {"content": []})
    shim.advance(5.1)
    assert len(listens(shim.server)) == 1


def test_the_first_initialized_session_brings_back_a_listen_that_ended(modern: Shim):
    modern.server.answer(listens(modern.server)[0])
    modern.session().notify("notifications/initialized")
    assert len(listens(modern.server)) == 2
    modern.session().notify("notifications/initialized")
    modern.advance(6)
    assert len(listens(modern.server)) == 2


def test_the_next_process_is_listened_to(modern: Shim):
    modern.session().request("resources/subscribe", {"uri": "a:1"})
    modern.server.exit_with()
    modern.advance(1)
    (sent,) = listens(modern.server)
    assert sent["params"]["notifications"]["resourceSubscriptions"] == ["a:1"]


def test_a_shim_that_drains_does_not_listen_again(modern: Shim):
    modern.server.answer(listens(modern.server)[0])
    modern.drain()
    modern.advance(6)
    assert len(listens(modern.server)) == 1
