"""HTTP/1.1: requests as they arrive in pieces, answers, streams, and the bounds of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.shim.in_process import MODERN, Client, Shim

from mcpmesh.shim.http.batch import Batch
from mcpmesh.shim.http.connection import AHEAD_BYTES, JOIN_BYTES
from mcpmesh.shim.http.exchange import Exchange
from mcpmesh.shim.http.request_head import HostRules, parse

Make = Callable[..., Shim]
BOTH = "application/json, text/event-stream"


@pytest.fixture
def shim(make: Make) -> Shim:
    return make(isolation="shared")


def request(path: str = "/health", method: str = "GET", body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{key.replace('_', '-')}: {text}" for key, text in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def call(shim: Shim, session: str, body: dict[str, Any], **headers: str) -> bytes:
    raw = json.dumps({"jsonrpc": "2.0", **body}).encode()
    return request("/mcp", "POST", raw, Accept=BOTH, Content_Type="application/json", Mcp_Session_Id=session, **headers)


def statuses(client: Client) -> list[int]:
    """The statuses of all answers on a connection."""
    return [int(part[:3]) for part in bytes(client.transport.data).split(b"HTTP/1.1 ")[1:]]


# Arriving.


def test_a_request_is_answered_however_it_is_cut(shim: Shim):
    session = shim.session()
    raw = call(shim, session.id, {"id": 1, "method": "ping"})
    whole = Client(shim).send(raw)
    for cut in range(1, len(raw), 7):
        assert Client(shim).send(raw[:cut], raw[cut:]).body == whole.body
    assert Client(shim).send(*(raw[n : n + 1] for n in range(len(raw)))).body == whole.body


def test_a_connection_serves_requests_one_after_the_other(shim: Shim):
    client = Client(shim)
    for n in range(1, 4):
        client.send(request())
        assert statuses(client) == [200] * n
    assert not client.transport.closing


def test_requests_that_were_sent_ahead_wait_for_their_turn(shim: Shim):
    session = shim.session()
    client = Client(shim).send(
        call(shim, session.id, {"id": 1, "method": "tools/call", "params": {"name": "a"}})
        + call(shim, session.id, {"id": 2, "method": "tools/call", "params": {"name": "b"}}),
        request(),
    )
    assert [sent["params"]["name"] for sent in shim.server.calls] == ["a"]
    shim.server.answer(shim.server.calls[0], {"n": 1})
    assert [sent["params"]["name"] for sent in shim.server.calls] == ["a", "b"]
    shim.server.answer(shim.server.calls[1], {"n": 2})
    assert statuses(client) == [200, 200, 200]


def test_too_much_that_is_sent_ahead_is_not_read(shim: Shim):
    session = shim.session()
    client = Client(shim).send(call(shim, session.id, {"id": 1, "method": "tools/call", "params": {"name": "a"}}))
    ahead = request(X=f"{'x' * 60_000}")
    for _ in range(AHEAD_BYTES // len(ahead)):
        client.send(ahead)
        assert client.transport.reading
    client.send(ahead)
    assert not client.transport.reading
    shim.server.answer(shim.server.calls[0], {})
    assert client.transport.reading
    assert statuses(client) == [200] * (2 + AHEAD_BYTES // len(ahead))


def test_what_was_sent_ahead_of_a_closed_connection_is_dropped(shim: Shim):
    client = Client(shim).send(request(Connection="close") + request())
    assert (statuses(client), client.transport.closing) == ([200], True)


def test_a_malformed_head_is_answered_and_closes_the_connection(shim: Shim):
    client = Client(shim).send(b"GET /health\r\n\r\n")
    assert (client.status, client.error["code"], client.headers["connection"]) == (400, -32700, "close")
    assert client.transport.closing
    assert shim.context.metrics.http[400] == 1


def test_a_foreign_host_is_refused(shim: Shim):
    client = Client(shim).send(b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert (client.status, client.error["code"], client.transport.closing) == (403, -32600, True)


def test_a_foreign_host_gets_no_body_to_a_head(shim: Shim):
    client = Client(shim).send(b"HEAD /health HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert (client.status, client.body) == (403, b"")


@pytest.mark.parametrize("whole", [True, False])
def test_a_head_over_the_limit_is_refused(make: Make, whole: bool):
    shim = make(isolation="shared", limits={"header_bytes": 200})
    head = request(X="y" * 200)
    client = Client(shim).send(head if whole else head[:201])
    assert (client.status, client.transport.closing) == (431, True)
    assert client.error["message"] == "the head is longer than 200 bytes (limits.header_bytes)"


def test_a_head_of_the_longest_length_is_taken(make: Make):
    head = request(X="y")
    longest = request(X="y" * (201 - len(head)))
    assert len(longest) == 200
    shim = make(isolation="shared", limits={"header_bytes": 200})
    assert Client(shim).send(longest).status == 200
    assert Client(shim).send(longest[:-1]).status == 0
    assert Client(shim).send(longest[:-1], longest[-1:]).status == 200


@pytest.mark.parametrize("split", [None, 60, 150])
def test_a_body_over_the_limit_is_refused(make: Make, split: int | None):
    shim = make(isolation="shared", limits={"body_bytes": 20})
    raw = request("/mcp", "POST", b"x" * 21)
    client = Client(shim).send(raw) if split is None else Client(shim).send(raw[:split], raw[split:])
    assert (client.status, client.transport.closing) == (413, True)
    assert client.error["message"] == "the body is longer than 20 bytes (limits.body_bytes)"


def test_a_body_of_the_longest_length_is_taken(make: Make):
    shim = make(isolation="shared", limits={"body_bytes": 20})
    assert Client(shim).send(request("/health", "GET", b"x" * 20)).status == 200


def test_a_client_that_asks_first_is_told_to_go_on(shim: Shim):
    session = shim.session()
    raw = call(shim, session.id, {"id": 1, "method": "ping"}, Expect="100-continue")
    head, body = raw.split(b"\r\n\r\n")
    client = Client(shim).send(head + b"\r\n\r\n")
    assert bytes(client.transport.data) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(body)
    assert statuses(client) == [100, 200]


def chunked(shim: Shim, session: str, body: bytes, size: int, **headers: str) -> list[bytes]:
    head = request(
        "/mcp", "POST", Accept=BOTH, Content_Type="application/json", Mcp_Session_Id=session,
        Transfer_Encoding="chunked", **headers,
    )  # fmt: skip
    parts = [body[n : n + size] for n in range(0, len(body), size)]
    return [head, *(b"%x\r\n%b\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_a_chunked_body_is_taken_and_closes_the_connection(shim: Shim, size: int):
    session = shim.session()
    body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    client = Client(shim).send(*chunked(shim, session.id, body, size))
    assert (client.status, client.result, client.transport.closing) == (200, {}, True)
    assert client.headers["connection"] == "close"
    joined = Client(shim).send(b"".join(chunked(shim, session.id, body, size)))
    assert joined.body == client.body


def test_a_chunked_body_over_the_limit_is_refused(make: Make):
    shim = make(isolation="shared", limits={"body_bytes": 20})
    client = Client(shim).send(*chunked(shim, "x", b"y" * 30, 10)[:-1])
    assert client.status == 413


def test_a_malformed_chunked_body_is_refused(shim: Shim):
    head = chunked(shim, "x", b"", 1)[0]
    client = Client(shim).send(head, b"zz\r\n")
    assert (client.status, client.transport.closing) == (400, True)
    assert "the chunked body is malformed" in client.error["message"]


def test_a_client_that_asks_first_for_a_chunked_body_is_told_to_go_on(shim: Shim):
    client = Client(shim).send(chunked(shim, "x", b"", 1, Expect="100-continue")[0])
    assert statuses(client) == [100]


def test_an_unfinished_request_is_dropped_after_a_while(shim: Shim):
    session = shim.session()
    raw = call(shim, session.id, {"id": 1, "method": "ping"})
    pieces = [Client(shim).send(raw[:20]), Client(shim).send(raw[:-3])]
    idle = Client(shim).send(request())
    shim.advance(29)
    assert [client.transport.aborted for client in pieces] == [False, False]
    pieces[1].send(raw[-3:-1])
    shim.advance(3)
    assert [client.transport.aborted for client in (*pieces, idle)] == [True, False, False]
    shim.advance(30)
    assert [client.transport.aborted for client in (*pieces, idle)] == [True, True, False]


# All connections together.


def test_too_many_connections_are_closed_at_once(make: Make):
    shim = make(isolation="shared", limits={"connections": 2})
    clients = [Client(shim) for _ in range(3)]
    shim.settle()
    assert [client.transport.aborted for client in clients] == [False, False, True]
    clients[0].leave()
    late = Client(shim)
    shim.settle()
    assert not late.transport.aborted


def test_too_many_bytes_of_unfinished_requests_refuse_the_one_that_brings_them(make: Make):
    shim = make(isolation="shared", limits={"incoming_bytes": 100})
    head = request("/mcp", "POST", b"x" * 200)[:-200]
    first = Client(shim).send(head + b"y" * 60)
    assert shim.app.connections.incoming_bytes == 60
    second = Client(shim).send(head + b"y" * 41)
    assert (second.status, second.headers["retry-after"], second.transport.closing) == (503, "1", True)
    assert second.error["message"].startswith("cannot take the request: 101 bytes of unfinished requests are here")
    assert (first.status, shim.app.connections.incoming_bytes) == (0, 60)
    third = Client(shim).send(head + b"y" * 20, b"y" * 20)
    assert (third.status, shim.app.connections.incoming_bytes) == (0, 100)
    first.leave()
    assert shim.app.connections.incoming_bytes == 40
    third.send(b"y" * 160)
    assert (third.status, shim.app.connections.incoming_bytes) == (406, 0)


def test_unfinished_chunked_bodies_count_too(make: Make):
    shim = make(isolation="shared", limits={"incoming_bytes": 100})
    parts = chunked(shim, "x", b"y" * 120, 60)
    client = Client(shim).send(*parts[:2])
    assert (shim.app.connections.incoming_bytes, client.status) == (60, 0)
    client.send(parts[2])
    assert (client.status, shim.app.connections.incoming_bytes) == (503, 0)


def test_an_unfinished_request_that_asks_first_is_not_told_to_go_on_when_it_is_refused(make: Make):
    shim = make(isolation="shared", limits={"incoming_bytes": 10})
    raw = request("/mcp", "POST", b"x" * 100, Expect="100-continue")
    assert statuses(Client(shim).send(raw[:-80])) == [503]


# Answers.


def test_a_long_answer_is_the_same_as_a_short_one_but_for_its_length(shim: Shim):
    session = shim.session()
    for size in (0, JOIN_BYTES - 200, JOIN_BYTES, 3 * JOIN_BYTES):
        answer = session.call()
        shim.server.answer(shim.server.calls[-1], {"text": "x" * size})
        assert answer.result == {"text": "x" * size}
        assert int(answer.headers["content-length"]) == len(answer.body)
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("connection", "closes"), [("keep-alive", False), ("Close", True), ("x, close", True)])
def test_the_connection_is_closed_if_the_client_wants_it(shim: Shim, connection: str, closes: bool):
    client = Client(shim).send(request(Connection=connection))
    assert (client.transport.closing, client.headers.get("connection")) == (closes, "close" if closes else None)


def test_while_the_shim_drains_each_answer_closes_its_connection(make: Make):
    shim = make(isolation="shared")
    call_ = shim.session().call()
    client = Client(shim).send(request())
    shim.drain()
    client.send(request())
    shim.server.answer(shim.server.calls[-1], {})
    for answered in (client, call_):
        assert answered.transport.closing
    assert b"connection: close" in bytes(client.transport.data)
    shim.advance(1)


def test_a_silent_call_gets_a_stream_and_keep_alives(make: Make):
    shim = make(isolation="shared", limits={"sse_after_seconds": 2, "keepalive_seconds": 8})
    call_ = shim.session().call()
    shim.advance(1.5)
    assert call_.status == 0
    shim.advance(1)
    assert (call_.streaming, call_.body.count(b": keep-alive")) == (True, 1)
    shim.advance(6)
    assert call_.body.count(b": keep-alive") == 1
    shim.advance(2)
    assert call_.body.count(b": keep-alive") == 2
    shim.server.notify("notifications/message", {"level": "info", "data": 1})
    shim.advance(6)
    assert call_.body.count(b": keep-alive") == 2
    shim.server.answer(shim.server.calls[-1], {"n": 1})
    assert (call_.result, call_.ended) == ({"n": 1}, True)


def test_the_stream_has_the_headers_that_proxies_need(shim: Shim):
    stream = shim.session().listen()
    assert {key: stream.headers[key] for key in ("content-type", "cache-control", "x-accel-buffering")} == {
        "content-type": "text/event-stream",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
    }
    assert stream.headers["transfer-encoding"] == "chunked"


def test_the_stream_of_an_old_http_client_is_not_chunked_and_ends_with_the_connection(shim: Shim):
    session = shim.session()
    raw = call(shim, session.id, {"id": 1, "method": "tools/call", "params": {"name": "x"}})
    client = Client(shim).send(raw.replace(b"HTTP/1.1", b"HTTP/1.0"))
    shim.advance(3)
    assert client.headers["connection"] == "close"
    assert "transfer-encoding" not in client.headers
    shim.server.answer(shim.server.calls[-1], {"n": 1})
    assert client.transport.closing
    assert client.body.endswith(b'data: {"jsonrpc":"2.0","id":1,"result":{"n":1}}\r\n\r\n')


def test_a_carriage_return_between_tokens_does_not_end_a_line_of_the_stream(shim: Shim):
    session = shim.session()
    stream = session.listen()
    session.notify("notifications/initialized")
    shim.server.send(b'{"jsonrpc":"2.0","method":"notifications/resources/list_changed","params":{"a":\r1}}')
    assert stream.messages[-1]["params"] == {"a": 1}


def test_a_client_that_does_not_read_its_stream_is_cut_off(make: Make):
    shim = make(isolation="shared", limits={"stream_bytes": 1000})
    session = shim.session()
    session.notify("notifications/initialized")
    stream = session.listen()
    stream.transport.unread_bytes = 1000
    shim.server.notify("notifications/tools/list_changed")
    assert (len(stream.messages), stream.transport.aborted) == (1, False)
    stream.transport.unread_bytes = 1001
    shim.server.notify("notifications/tools/list_changed")
    assert (len(stream.messages), stream.transport.aborted, shim.events["slow_clients"]) == (1, True, 1)


def test_nothing_is_written_to_a_connection_that_is_closing(shim: Shim):
    stream = shim.session().listen()
    before = len(stream.transport.data)
    stream.transport.closing = True
    shim.advance(20)
    assert len(stream.transport.data) == before


def test_a_client_that_reads_slowly_holds_up_nobody_on_a_shared_server(shim: Shim):
    slow = shim.session().call()
    slow.stop_reading()
    assert not shim.server.paused
    slow.read_on()


# Batches.


def test_a_batch_of_which_one_part_streams_is_a_stream(shim: Shim):
    session = shim.session({"sampling": {}})
    batch = shim.post(
        [{"id": 1, "method": "ping"}, {"id": 2, "method": "tools/call", "params": {"name": "x"}}], session.id
    )
    shim.server.request("q", "sampling/createMessage")
    assert [message.get("method") for message in batch.messages] == ["sampling/createMessage"]
    shim.server.answer(shim.server.calls[-1], {"n": 1})
    answers = [(message["id"], message["result"]) for message in batch.messages if "result" in message]
    assert (answers, batch.ended) == ([(2, {"n": 1}), (1, {})], True)


def test_a_batch_whose_client_leaves_leaves_its_calls(shim: Shim):
    session = shim.session()
    batch = shim.post([{"id": n, "method": "tools/call", "params": {"name": "x"}} for n in (1, 2)], session.id)
    batch.leave()
    for sent in list(shim.server.calls):
        shim.server.answer(sent, {})
    assert shim.outcomes[("legacy", "tools/call", "ok")] == 2


def test_a_batch_expires_with_its_calls(make: Make):
    shim = make(isolation="shared", request_seconds=10)
    session = shim.session()
    batch = shim.post(
        [{"id": 1, "method": "ping"}, {"id": 2, "method": "tools/call", "params": {"name": "x"}}], session.id
    )
    shim.advance(12)
    assert batch.ended
    assert shim.outcomes[("legacy", "tools/call", "failed")] == 1


def test_a_modern_call_that_is_cancelled_by_its_connection_is_off_the_count(make: Make):
    shim = make(isolation="shared", era=MODERN)
    call_ = shim.modern("tools/call", {"name": "x"})
    assert shim.app.connections.in_flight == 1
    call_.leave()
    assert (shim.app.connections.in_flight, len(shim.app.connections.open)) == (0, 0)


def test_the_part_of_a_batch_ends_once(shim: Shim):
    exchange = Exchange(Client(shim).connection, parse(request(), HostRules([], []))[0], 0.0)
    batch = Batch(exchange)
    part, other = batch.add_part(), batch.add_part()
    part.end()
    part.end()
    part.reply(200, [b"late"])
    part.event([b"late"])
    assert (batch.remaining, batch.answers, part.live, other.live) == (2, [], False, True)
