"""Too long, too deep or too slow input is refused or waits, and the shim's memory does not grow."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from running_shim import ACCEPT, events, until

MIB = 1 << 20
GIB = 1 << 30
# How much a shim may grow under attack, besides what its limits allow it to keep.
SLACK_MIB = 12


def memory(shim, what="VmRSS"):
    """Resident MiB, or with VmHWM the most that there ever were."""
    for line in Path(f"/proc/{shim.process.pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no {what}")


def send(shim, head, pieces=()):
    """Send bytes on a connection of their own, until all are sent or the shim refuses; returns its answer."""
    with socket.create_connection(("127.0.0.1", shim.port), timeout=60) as raw:
        try:
            raw.sendall(head)
            for piece in pieces:
                raw.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        try:
            while b"\r\n\r\n" not in answer and (more := raw.recv(65536)):
                answer += more
        except ConnectionResetError:
            pass
        return answer


def post(length, headers=None):
    """The head of a POST; a length of None is a body in chunks."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"{key}: {text}\r\n" for key, text in (headers or ACCEPT).items()]
    return f"POST /mcp HTTP/1.1\r\nHost: localhost\r\n{''.join(lines)}{framing}\r\n\r\n".encode()


# Deep.

SHAPES = {"arrays": (b"[", b"]"), "objects": (b'{"a":', b"}"), "unclosed": (b"[", b""), "mixed": (b'[{"a":', b"}]")}


@pytest.mark.parametrize("depth", [1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_json_nested_a_thousand_deep_and_more_is_refused(plain, modern, legacy, shape, depth):
    opening, closing = SHAPES[shape]
    nested = opening * depth + b"1" * bool(closing) + closing * depth
    session = legacy(plain)
    client = modern(plain)
    before = memory(plain, "VmHWM")
    frame = client.body("tools/call", {"name": "echo", "arguments": "NESTED"})
    for headers, body in (
        (client.headers(frame), json.dumps(frame).encode().replace(b'"NESTED"', nested)),
        (session.headers, b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + nested + b"}"),
        (session.headers, b'{"jsonrpc":"2.0","id":1,"result":' + nested + b"}"),
        (session.headers, b'{"jsonrpc":"2.0","method":"notifications/x","params":' + nested + b"}"),
        ({**session.headers, "MCP-Protocol-Version": "2025-03-26"}, b"[" + nested + b"]"),
        (session.headers, nested),
    ):
        response = plain.http.post("/mcp", content=body, headers=headers)
        assert response.status_code == 400, body[:80]
        assert response.json()["error"]["code"] in (-32700, -32600)
    assert client.text("echo", text="fine") == "fine"
    assert session.text("echo", text="fine") == "fine"
    # The longest of these is 14 MB, of which there are two for a moment.
    assert memory(plain, "VmHWM") - before < 2 * len(nested) / MIB + SLACK_MIB


def test_json_nested_below_that_reaches_the_server(plain, modern):
    client = modern(plain)
    deep = "[" * 500 + "]" * 500
    body = client.body("tools/call", {"name": "raw", "arguments": {"deep": "NESTED"}})
    content = json.dumps(body).replace('"NESTED"', deep)
    response = plain.http.post("/mcp", content=content, headers=client.headers(body))
    assert deep in response.json()["result"]["content"][0]["text"].replace(" ", "")


# Long.


def test_a_body_announced_as_a_gigabyte_is_refused_before_it_is_sent(plain):
    before = memory(plain, "VmHWM")
    answer = send(plain, post(GIB) + b'{"x":"')
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    assert memory(plain, "VmHWM") - before < SLACK_MIB


def test_a_chunked_body_is_cut_at_the_limit(start):
    shim = start(limits={"body_bytes": 4 * MIB})
    before = memory(shim, "VmHWM")
    chunk = b"%x\r\n" % MIB + b"y" * MIB + b"\r\n"
    sent = 0

    def chunks():
        nonlocal sent
        while sent < GIB:
            sent += MIB
            yield chunk

    answer = send(shim, post(None), chunks())
    assert answer.startswith(b"HTTP/1.1 413 ") or not answer  # the connection may be lost with the refusal
    assert sent < 64 * MIB
    assert memory(shim, "VmHWM") - before < 2 * 4 + SLACK_MIB
    assert shim.metric("http_answers_total", status="413") == 1


FLOODS = {
    "trailers": (b"1\r\nx\r\n0\r\n", b"X-More: yyyyyyyy\r\n", b"431"),
    "one trailer": (b"1\r\nx\r\n0\r\nX-More: ", b"y" * 16, b"431"),
    "a chunk's extension": (b"5;", b"y" * 16, b"431"),
    "a chunk's length": (b"0", b"0" * 16, b"4"),
    "chunks of two bytes": (b"", b"2\r\nxy\r\n", b"413"),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_chunked_bodys_framing_cannot_fill_the_memory(start, flood):
    shim = start(limits={"body_bytes": 4 * MIB})
    first, piece, status = FLOODS[flood]
    before = memory(shim, "VmHWM")
    block = piece * (MIB // len(piece))
    answer = send(shim, post(None) + first, [block] * 64)
    assert not answer or answer.startswith(b"HTTP/1.1 " + status), answer[:80]
    assert memory(shim, "VmHWM") - before < 2 * 4 + SLACK_MIB
    assert shim.http.get("/health").status_code == 200


def test_the_body_limit_is_a_setting_and_exact(start, modern):
    shim = start(limits={"body_bytes": 10_000})
    client = modern(shim)
    body = client.body("tools/call", {"name": "echo", "arguments": {"text": ""}})
    room = 10_000 - len(json.dumps(body))
    for extra, status in ((0, 200), (1, 413)):
        body["params"]["arguments"]["text"] = "x" * (room + extra)
        response = shim.http.post("/mcp", content=json.dumps(body), headers=client.headers(body))
        assert response.status_code == status


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_unfinished_bodies_of_all_connections_are_bounded_together(start, framing):
    shim = start(limits={"incoming_bytes": 5 * MIB, "body_bytes": 4 * MIB})
    half = b'{"x":"' + b"y" * (2 * MIB - 6)
    head, part = (post(4 * MIB), half) if framing == "length" else (post(None), b"%x\r\n" % len(half) + half + b"\r\n")
    rest = b"z" * (2 * MIB - 2) + b'"}'
    rest = rest if framing == "length" else b"%x\r\n" % len(rest) + rest + b"\r\n0\r\n\r\n"
    with ExitStack() as stack:
        first, second = (stack.enter_context(socket.create_connection(("127.0.0.1", shim.port))) for _ in range(2))
        for raw in (first, second):
            raw.sendall(head + part)
        until(lambda: shim.metric("incoming_bytes") == 4 * MIB)
        refused = send(shim, head + part)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in refused
        assert b"\r\nX-Mcpmesh-Not-Started: 1\r\n" in refused
        second.close()
        until(lambda: shim.metric("incoming_bytes") == 2 * MIB)
        first.sendall(rest)
        # The body is complete, but not JSON-RPC.
        assert first.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert shim.metric("incoming_bytes") == 0


def test_calls_that_wait_for_a_server_to_start_are_bounded(start, modern, gate):
    held = gate()
    shim = start("--start-at", held.path, ready=False, limits={"waiting": 2})
    client = modern(shim)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.call, "echo", text="w") for _ in range(2)]
        until(lambda: shim.info()["in_flight"] == 2)
        response = client.post(client.body("tools/call", {"name": "echo", "arguments": {}}))
        assert (response.status_code, response.json()["error"]["data"]["started"]) == (503, False)
        assert response.headers["retry-after"]
        held.open()
        assert [call.result()["result"]["content"][0]["text"] for call in waiting] == ["w", "w"]
    assert client.text("echo", text="later") == "later"


def test_an_endless_head_is_cut_at_the_limit(start):
    shim = start(limits={"header_bytes": 10_000})
    before = memory(shim, "VmHWM")
    answer = send(
        shim, b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n", (b"X-Long: " + b"y" * 500 for _ in range(100_000))
    )
    assert answer.startswith(b"HTTP/1.1 431 ") or not answer
    assert memory(shim, "VmHWM") - before < SLACK_MIB
    assert shim.metric("http_answers_total", status="431") == 1


# Writes a gigabyte without a line break, JSON nested too deep, and messages unasked.
SERVER = """
import json, os, sys
heard = []
for line in sys.stdin:
    m = json.loads(line)
    if "method" not in m:
        heard.append({"type": "text", "text": json.dumps(m)})
        continue
    if m.get("method") == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "e"}}
    elif m.get("method") == "tools/list":
        result = {"tools": []}
    elif m.get("method") == "tools/call" and m["params"]["name"] == "endless":
        os.write(1, b'{"jsonrpc":"2.0","id":%d,"result":{"x":"' % m["id"])
        piece, left = b"y" * (1 << 20), 1 << 30
        while left:
            left -= os.write(1, piece[:left])
        os.write(1, b'"}}\\n')
        continue
    elif m.get("method") == "tools/call" and m["params"]["name"] == "deep":
        os.write(1, b'{"id":%d,"jsonrpc":"2.0", "result":' % m["id"] + b"[" * 5000 + b"]" * 5000 + b"}\\n")
        continue
    elif m.get("method") == "tools/call":
        result = {"content": heard}
    elif m.get("method") == "notifications/flood":
        print('{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{}}', flush=True)
        for n in range(40):
            note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"n": n, "data": "y" * 20_000}}
            print(json.dumps(note), flush=True)
        continue
    elif "id" in m:
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "error": {"code": -32601, "message": "?"}}), flush=True)
        continue
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": result}), flush=True)
"""


def test_an_answer_a_gigabyte_long_fails_its_call_and_is_not_kept(start, modern):
    shim = start(command=sys.executable, args=["-c", SERVER], limits={"line_bytes": 2 * MIB})
    client = modern(shim, timeout=120)
    before = memory(shim, "VmHWM")
    error = client.call("endless")["error"]
    assert (error["data"]["reason"], error["data"]["started"]) == ("answer-too-long", True)
    assert "limits.line_bytes" in error["message"]
    assert memory(shim, "VmHWM") - before < 3 * 2 + SLACK_MIB
    assert client.call("other")["result"]["content"] == []
    assert shim.metric("oversize_lines_total") == 1


def test_an_unreadable_answer_fails_its_call_and_no_other(start, modern):
    shim = start(command=sys.executable, args=["-c", SERVER])
    client = modern(shim)
    error = client.call("deep")["error"]
    assert error["data"] == {"reason": "answer-unreadable", "started": True}
    assert client.call("other")["result"]["content"] == []


# Slow.


def test_a_client_that_does_not_read_its_events_is_cut_off_and_its_call_cancelled(start, modern):
    shim = start(limits={"stream_bytes": 500_000})
    client, other = modern(shim), modern(shim)
    before = memory(shim, "VmHWM")
    params = {"name": "progress", "arguments": {"steps": 400_000}}
    body = client.body("tools/call", params, progressToken="t" * 200)
    content = json.dumps(body).encode()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", shim.port))
        raw.sendall(post(len(content), client.headers(body)) + content)
        until(lambda: shim.metric("slow_clients_total") == 1, 60)
    until(lambda: json.loads(other.text("cancelled")), 60)
    assert memory(shim, "VmHWM") - before < 2 * 0.5 + SLACK_MIB


def test_messages_that_a_session_does_not_fetch_are_kept_up_to_a_bound(start, legacy):
    limits = {"stream_bytes": 100_000, "session_backlog": 1000}
    shim = start(command=sys.executable, args=["-c", SERVER], limits=limits)
    client = legacy(shim)
    client.notify("notifications/flood")
    until(lambda: shim.metric("dropped_notifications_total") == 36)
    with client.listen() as response:
        stream = events(response)
        assert [next(stream)["params"]["n"] for _ in range(4)] == [36, 37, 38, 39]
    # The server request that was given up gets no answer either.
    until(lambda: json.loads(client.text("heard")).get("error"))
    assert json.loads(client.text("heard"))["id"] == "q"
    client.respond("q", {"too": "late"})
    until(lambda: shim.metric("stray_messages_total") == 1)


def test_a_stopped_server_holds_up_its_own_session_alone(start, legacy):
    shim = start(limits={"stdin_bytes": 200_000})
    stuck, free = legacy(shim), legacy(shim)
    pid = int(stuck.text("pid"))
    before = memory(shim, "VmHWM")
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(12) as pool:
            texts = [f"{n}" + "x" * 90_000 for n in range(40)]
            calls = [pool.submit(stuck.post, request(n, text)) for n, text in enumerate(texts)]
            refused = until(lambda: [call.result() for call in calls if call.done() and refusal(call)])
            for _ in range(50):
                assert free.text("echo", text="free") == "free"
            # Of 3.6 MB only what the limit and the kernel's pipe take was accepted.
            assert memory(shim, "VmHWM") - before < SLACK_MIB
            os.kill(pid, signal.SIGCONT)
            answers = [call.result() for call in calls]
    finally:
        os.kill(pid, signal.SIGCONT)
    for response in refused:
        assert int(response.headers["retry-after"]) >= 1
        assert response.headers["x-mcpmesh-not-started"] == "1"
        assert response.json()["error"]["data"] == {"reason": "server-stalled", "started": False}
    started = [response for response in answers if response.status_code == 200]
    assert all("result" in response.text for response in started)
    # The server itself reports that refused calls never reached it ("pid" and "seen" are calls too).
    assert json.loads(stuck.text("seen")).count("tools/call") == len(started) + 2


def request(n, text):
    params = {"name": "echo", "arguments": {"text": text}}
    return {"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": params}


def refusal(call):
    return call.result().status_code == 503
