"""A modern client's subscription ends gracefully when the shim or the server ends it, in either era."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from running_shim import events, until

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
LOG_LEVEL = "io.modelcontextprotocol/logLevel"
WANTED = {"notifications": {"toolsListChanged": True}}
# 2026-07-28/basic/patterns/subscriptions.mdx, Graceful Closure.
GRACEFUL = {"jsonrpc": "2.0", "id": 5, "result": {"resultType": "complete", "_meta": {SUBSCRIPTION: 5}}}
BOTH = pytest.mark.parametrize("words", [[], ["--modern"]], ids=["legacy server", "modern server"])


def outcomes(shim, outcome):
    return shim.metric("calls_total", method="subscriptions/listen", outcome=outcome)


@BOTH
def test_a_subscription_ends_gracefully_when_the_shim_stops(start, modern, words):
    shim = start(*words)
    with modern(shim).stream("subscriptions/listen", WANTED, id=5) as response:
        stream = events(response)
        next(stream)
        shim.process.terminate()
        assert list(stream) == [GRACEFUL]
    assert shim.stop() == 0


@BOTH
def test_a_drain_ends_subscriptions_at_once_and_lets_calls_go_on(start, modern, gate, words):
    shim, held = start(*words, drain_seconds=60), gate()
    listening, calling = modern(shim), modern(shim)
    with ThreadPoolExecutor(1) as pool, listening.stream("subscriptions/listen", WANTED, id=5) as response:
        stream = events(response)
        next(stream)
        call = pool.submit(calling.call, "hold", gate=held.path)
        until(lambda: shim.info()["in_flight"] == 1)
        shim.process.terminate()
        assert list(stream) == [GRACEFUL]
        assert shim.info()["in_flight"] == 1
        held.open()
        assert call.result()["result"]["content"][0]["text"] == "let go"
    until(lambda: "mcpmesh-shim: drained; 0 calls were cut" in shim.lines)


@BOTH
def test_a_subscription_ends_gracefully_when_its_server_is_gone(start, modern, words):
    shim = start(*words, limits={"backoff_seconds": 0.05})
    client = modern(shim)
    with client.stream("subscriptions/listen", WANTED, id=5) as response:
        stream = events(response)
        next(stream)
        assert "exited with code 3" in modern(shim).call("die")["error"]["message"]
        assert list(stream) == [GRACEFUL]
    assert outcomes(shim, "ok") == 1
    shim.wait_ready()
    with client.stream("subscriptions/listen", WANTED, id=6) as response:
        assert next(events(response))["params"]["_meta"] == {SUBSCRIPTION: 6}


def test_a_subscription_that_its_server_cancels_ends_gracefully(start, modern):
    shim = start("--modern")
    with modern(shim).stream("subscriptions/listen", WANTED, id=5) as response:
        stream = events(response)
        next(stream)
        modern(shim).call("unsubscribe")
        until(lambda: outcomes(shim, "ok") == 1)
        assert list(stream) == [GRACEFUL]


@BOTH
def test_a_subscription_that_its_client_closes_counts_as_cancelled(start, modern, words):
    shim = start(*words)
    with modern(shim).stream("subscriptions/listen", WANTED, id=5) as response:
        next(events(response))
    until(lambda: outcomes(shim, "cancelled") == 1)
    assert outcomes(shim, "ok") == 0


def test_after_a_subscriptions_end_log_messages_still_reach_the_caller(start, modern):
    shim = start("--modern")
    client = modern(shim)
    with modern(shim).stream("subscriptions/listen", WANTED, id=5) as response:
        next(events(response))
    until(lambda: outcomes(shim, "cancelled") == 1)
    told, _ = client.request("tools/call", {"name": "log", "arguments": {"data": "mine"}}, **{LOG_LEVEL: "debug"})
    assert told["params"]["data"] == "mine"
