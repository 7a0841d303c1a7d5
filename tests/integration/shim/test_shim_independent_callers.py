"""Callers are independent: one caller's server request, silence or end does not affect the others."""

from __future__ import annotations

import contextlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from running_shim import FAKE, events, impatient, running, until

SAMPLING = {"sampling": {}}


def test_if_no_second_process_can_run_calls_share_one_that_waits_for_an_answer(modern, tmp_path):
    words = f'exec flock -n "{tmp_path}/only-once" "{sys.executable}" "{FAKE}"'
    with running(command="sh", args=["-c", words], limits={"spares": 0}) as shim:
        asker, other = modern(shim.wait_ready(), SAMPLING), modern(shim, SAMPLING)
        asked = asker.call("sample")["result"]
        assert other.text("echo", text="served") == "served"
        assert "yes" in replied(asker, asked)


def replied(client, asked):
    """The text that the server makes of a modern client's answers."""
    answers = {key: {"said": "yes"} for key in asked["inputRequests"]}
    more = {"requestState": asked["requestState"], "inputResponses": answers}
    return client.call("sample", more=more)["result"]["content"][0]["text"]


def test_a_process_for_asking_calls_runs_as_long_as_such_calls_arrive(start, modern):
    idle = 2
    shim = start(limits={"spares": 0, "spare_idle_seconds": idle})
    client = modern(shim, SAMPLING)

    def come():
        """The earliest time of the call, and how many processes had been started until then."""
        began = time.monotonic()
        assert "yes" in replied(client, client.call("sample")["result"])
        return began, shim.metric("server_starts_total")

    come()
    # From the second one on each call has a process for itself.
    last, starts = come()
    for _ in range(25):
        time.sleep(0.2)
        began, now = come()
        # Another process is started only if the machine stood still, so that no call arrived for too long.
        assert now == starts or time.monotonic() - last >= idle
        last, starts = began, now
    until(lambda: shim.info()["children"] == 1)


def test_a_sessions_server_request_stays_open_when_another_of_its_calls_ends(start, legacy, gate):
    shim, asking, ending = start(isolation="shared"), gate(), gate()
    client = legacy(shim, SAMPLING)
    with client.listen() as listening, ThreadPoolExecutor(2) as pool:
        asks = pool.submit(client.call, "sample", 1, gate=asking.path)
        ends = pool.submit(client.text, "hold", gate=ending.path)
        asking.reached()
        ending.reached()
        asking.open()
        question = next(event for event in events(listening) if "method" in event)
        ending.open()
        assert ends.result() == "let go"
        client.respond(question["id"], {"said": "yes"})
        assert "yes" in asks.result()["result"]["content"][0]["text"]


def test_a_server_without_subscriptions_is_asked_for_one_only_once(start, legacy):
    shim = start("--modern", "--no-listen", isolation="shared")
    for _ in range(5):
        client = legacy(shim)
        client.http.delete("/mcp", headers=client.headers)
    assert legacy(shim).text("seen").count("subscriptions/listen") == 1


def test_a_subscription_does_not_wait_for_an_unanswered_one_of_another_client(start, modern):
    shim = start("--mute-subscribe")
    silent = {"notifications": {"resourceSubscriptions": ["fake://one"]}}
    client = modern(shim)
    with impatient(client, 1), contextlib.suppress(httpx.ReadTimeout):
        client.request("subscriptions/listen", silent)
    lists = {"notifications": {"toolsListChanged": True}}
    with modern(shim).stream("subscriptions/listen", lists) as response:
        assert next(events(response))["method"] == "notifications/subscriptions/acknowledged"


def test_a_call_that_waits_for_input_of_a_client_that_left_ends_in_time(start, legacy):
    shim = start("--modern", isolation="request", request_seconds=3, limits={"spares": 0})
    client = legacy(shim, {"elicitation": {}})
    with client.stream("tools/call", {"name": "input"}) as response:
        next(events(response), None)  # the server request, unless the call expired before
    until(lambda: shim.info()["children"] == 1)


def test_an_oversize_answer_to_a_client_that_left_fails_no_other_call(start, modern, gate):
    shim, long, other = start(isolation="shared", limits={"line_bytes": 100_000}), gate(), gate()
    client = modern(shim)
    with impatient(client), contextlib.suppress(httpx.ReadTimeout):
        client.call("big", bytes=200_000, gate=long.path)
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(modern(shim).text, "hold", gate=other.path)
        other.reached()
        long.open()
        until(lambda: shim.metric("oversize_lines_total") == 1)
        other.open()
        assert beside.result() == "let go"
