"""A shim as a whole: its plain endpoints, what it counts, and how it drains and closes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from tests.unit.shim.in_process import CAPABILITIES, LEGACY, MODERN, Client, Shim

from mcpmesh import __version__
from mcpmesh.shim import malloc

Make = Callable[..., Shim]
RESULT = {"content": []}


def gauges(shim: Shim) -> dict[str, float]:
    """The gauges of /metrics."""
    lines = shim.get("/metrics").body.decode().splitlines()
    kinds = [line.split()[2] for line in lines if line.startswith("# TYPE") and line.endswith("gauge")]
    return {
        line.split("{")[0].removeprefix("mcpmesh_shim_"): float(line.split()[-1])
        for line in lines
        if line.split("{")[0] in kinds
    }


# Endpoints.


def test_health_says_that_the_shim_runs_whatever_the_server_does(make: Make):
    shim = make(start=False)
    assert json.loads(shim.get("/health").body) == {"status": "alive"}


def test_info_tells_what_is_known_of_the_server_and_what_exists(make: Make):
    shim = make(isolation="session", name="files", instance="files-1")
    shim.session().call()
    info = json.loads(shim.get("/info").body)
    (tool,) = info.pop("tools")
    assert (tool["name"], len(tool["digest"])) == ("echo", 64)
    assert info == {
        "name": "files",
        "instance": "files-1",
        "pid": os.getpid(),
        "version": __version__,
        "isolation": "session",
        "server": {"name": "fake", "version": "1"},
        "protocol_versions": [LEGACY],
        "eras": ["legacy"],
        "capabilities": CAPABILITIES,
        "children": 3,
        "sessions": 1,
        "in_flight": 1,
    }


def test_info_of_a_modern_server(make: Make):
    info = json.loads(make(era=MODERN).get("/info").body)
    assert (info["protocol_versions"], info["eras"]) == ([MODERN], ["modern"])


def test_metrics_have_what_exists(make: Make):
    shim = make(isolation="shared", name="files", instance="files-1")
    session = shim.session({"sampling": {}})
    session.listen()
    call = shim.modern("tools/call", {"name": "x"}, capabilities={"sampling": {}})
    shim.server.request("q", "sampling/createMessage")
    shim.advance(0.02)
    assert call.result["resultType"] == "input_required"
    session.call()
    Client(shim).send(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
    assert gauges(shim) == {
        "up": 1,
        "children": 1,
        "sessions": 1,
        "in_flight": 1,
        "connections": 6,
        "incoming_bytes": 3,
        "suspended": 1,
    }
    text = shim.get("/metrics").body.decode()
    labels = 'service="files",instance="files-1"'
    assert f"mcpmesh_shim_sessions_opened_total{{{labels}}} 1" in text
    assert shim.get("/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_metrics_say_when_the_server_is_not_ready(make: Make):
    shim = make()
    shim.server.exit_with()
    assert gauges(shim)["up"] == 0


def test_ready_is_counted_by_its_status(make: Make):
    shim = make()
    shim.get("/ready")
    shim.server.exit_with()
    shim.get("/ready")
    assert shim.context.metrics.http == {200: 1, 503: 1}


def test_ready_says_that_the_shim_drains(make: Make):
    shim = make(isolation="shared")
    shim.drain()
    answer = shim.get("/ready")
    assert (answer.status, json.loads(answer.body)["state"]) == (503, "draining")
    assert json.loads(answer.body)["error"] == "the server is draining"


# Draining.


def test_a_drain_lets_calls_end(make: Make):
    shim = make(isolation="shared", drain_seconds=50)
    legacy, modern = shim.session().call(), shim.modern("tools/call", {"name": "x"})
    draining = shim.drain()
    shim.advance(40)
    assert not draining.done()
    for sent in list(shim.server.calls):
        shim.server.answer(sent, RESULT)
    shim.advance(0.05)
    assert (draining.result(), legacy.messages[-1]["result"]) == (0, RESULT)
    assert modern.messages[-1]["result"]["content"] == []
    assert "cut_calls" not in shim.events


def test_a_drain_ends_after_its_time_and_counts_the_calls_that_were_cut(make: Make, capfd: pytest.CaptureFixture[str]):
    shim = make(isolation="shared", drain_seconds=5)
    shim.session().call()
    shim.modern("tools/call", {"name": "x"})
    draining = shim.drain()
    shim.advance(4.9)
    assert not draining.done()
    shim.advance(0.2)
    assert (draining.result(), shim.events["cut_calls"]) == (2, 2)
    assert "mcpmesh-shim: drained; 2 calls were cut\n" in capfd.readouterr().err


def test_a_drain_can_be_ended_at_once(make: Make):
    shim = make(isolation="shared", drain_seconds=50)
    shim.session().call()
    draining = shim.drain()
    shim.app.cut_drain = True
    shim.advance(0.05)
    assert draining.result() == 1


def test_a_drain_ends_the_streams_of_sessions_at_once(make: Make):
    shim = make(isolation="shared", drain_seconds=50)
    stream = shim.session().listen()
    draining = shim.drain()
    assert (stream.ended, stream.transport.closing, draining.result()) == (True, True, 0)


def test_a_drain_waits_for_sessions_that_are_being_opened_and_for_batches(make: Make):
    shim = make(isolation="session", drain_seconds=50)
    session = shim.session()
    batch = shim.post([{"id": 1, "method": "tools/call", "params": {"name": "x"}}], session.id)
    initialized = shim.automatic.pop("initialize")["result"]
    opening = shim.initialize()
    draining = shim.drain()
    shim.advance(1)
    shim.servers[1].answer(shim.servers[1].calls[-1], RESULT)
    assert (batch.status, draining.done()) == (200, False)
    shim.servers[2].answer(shim.servers[2].calls[-1], initialized)
    shim.advance(0.05)
    assert (opening.status, draining.done()) == (200, True)


# Closing.


def test_closing_fails_what_still_runs_and_stops_every_server(make: Make):
    shim = make(isolation="session")
    dedicated = shim.session().call()
    modern = shim.modern("tools/call", {"name": "x"})
    idle = shim.get("/health")
    stream = shim.session().listen()
    shim.loop.run_until_complete(shim.app.close())
    shim.settle()
    error = {
        "code": -32603,
        "message": "the shim stopped before the server answered; the call may have taken effect",
        "data": {"reason": "stopped", "started": True},
    }
    assert (dedicated.error, modern.error, stream.ended) == (error, error, True)
    assert (shim.running, idle.transport.closing) == ([], True)
    assert shim.app.connections.open == set()


# The tick.


def test_nothing_ticks_while_there_is_nothing_to_watch(make: Make):
    shim = make(isolation="shared")
    shim.get("/health").leave()
    shim.advance(5)
    assert len(timers(shim)) == 0
    shim.get("/health")
    assert len(timers(shim)) == 1


def timers(shim: Shim) -> list[object]:
    return [handle for handle in shim.loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]


def test_freed_memory_is_returned_once_no_request_runs(make: Make, monkeypatch: pytest.MonkeyPatch):
    trims: list[float] = []
    shim = make(isolation="shared")
    monkeypatch.setattr(malloc, "trim", lambda: trims.append(shim.loop.time()))
    session = shim.session()
    call = session.call()
    shim.get("/health").leave()
    shim.advance(3)
    assert trims == []
    shim.server.answer(shim.server.calls[-1], RESULT)
    assert call.ended
    shim.advance(3)
    assert len(trims) == 1
