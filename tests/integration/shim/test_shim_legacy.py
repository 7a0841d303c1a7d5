"""The legacy era: sessions, ids, streams, cancels and refusals."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from running_shim import ACCEPT, events, initialize, posted, until


def test_a_session_has_its_own_process_and_the_servers_own_answer(plain, legacy):
    shim = plain
    one, two = legacy(shim), legacy(shim)
    assert one.initialized["serverInfo"] == {"name": "fake", "version": "1.2.3"}
    assert one.text("echo", text="hello") == "hello"
    assert one.text("pid") == one.text("pid")
    assert one.text("pid") != two.text("pid")


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_each_revision_is_settled_between_client_and_server(plain, legacy, version):
    shim = plain
    assert legacy(shim, version=version).initialized["protocolVersion"] == version


def test_session_ids_are_unlike_each_other_and_end_in_the_owners_address(start, legacy):
    shim = start(affinity="127.0.0.1:4711")
    ids = {legacy(shim).session for _ in range(3)}
    assert len(ids) == 3
    assert all(id.endswith("@127.0.0.1:4711") and len(id.partition("@")[0]) == 32 for id in ids)


def test_a_client_may_use_one_id_for_all_its_calls_at_once(plain, legacy):
    shim = plain
    client = legacy(shim)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: client.call("echo", id="same", text=str(n)), range(200)))
    assert [answer["result"]["content"][0]["text"] for answer in answers] == [str(n) for n in range(200)]
    assert {answer["id"] for answer in answers} == {"same"}


@pytest.mark.parametrize("id", [0, -5, 2**53, "a b", 'quo"te', "ünï"])
def test_ids_come_back_as_they_were(plain, legacy, id):
    assert legacy(plain).call("echo", id=id, text="x")["id"] == id


def test_params_reach_the_server_untouched(plain, legacy):
    client = legacy(plain)
    big = (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"raw",'
        '"arguments":{"id":7,"n":123456789012345678901234567890,"f":1.0,"s":"a\\nb"}}}'
    )
    response = client.http.post("/mcp", content=big.replace(",", ",\n"), headers=client.headers)
    said = response.json()["result"]["content"][0]["text"]
    assert json.loads(said)["arguments"] == {"id": 7, "n": 123456789012345678901234567890, "f": 1.0, "s": "a\nb"}
    assert "123456789012345678901234567890" in said


def test_progress_goes_to_the_call_that_asked_for_it_under_its_own_token(plain, legacy):
    client = legacy(plain)

    def run(token):
        params = {"name": "progress", "arguments": {"steps": 3, "pause": 0.01}, "_meta": {"progressToken": token}}
        return client.request("tools/call", params)

    with ThreadPoolExecutor(4) as pool:
        for token, answer in zip(["t", 5, "t", 5], pool.map(run, ["t", 5, "t", 5]), strict=True):
            *progress, last = answer
            assert [note["params"]["progress"] for note in progress] == [0, 1, 2]
            assert {note["params"]["progressToken"] for note in progress} == {token}
            assert last["result"]["content"][0]["text"] == "progressed"


def test_an_answer_without_notifications_is_plain_json(plain, legacy):
    response = legacy(plain).post({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert response.headers["content-type"] == "application/json"


def test_an_event_stream_says_that_it_must_not_be_buffered(plain, legacy):
    client = legacy(plain)
    params = {"name": "progress", "arguments": {"steps": 1}, "_meta": {"progressToken": 1}}
    response = client.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["x-accel-buffering"] == "no"


def test_a_silent_call_gets_a_stream_and_keep_alives(start, legacy, gate):
    shim, held = start(limits={"sse_after_seconds": 0.2, "keepalive_seconds": 1.0}), gate()
    with legacy(shim).stream("tools/call", {"name": "hold", "arguments": {"gate": held.path}}) as response:
        assert response.headers["content-type"] == "text/event-stream"
        lines = response.iter_lines()
        for _ in range(2):
            assert next(line for line in lines if line) == ": keep-alive"
        held.open()
        *_, answer = (json.loads(line[6:]) for line in lines if line.startswith("data: "))
    assert answer["result"]["content"][0]["text"] == "let go"


def test_a_get_stream_is_kept_alive(start, legacy):
    client = legacy(start(limits={"keepalive_seconds": 1.0}))
    with client.listen() as response:
        lines = response.iter_lines()
        comments = [line for line, _ in zip(lines, range(6), strict=False) if line.startswith(":")]
    assert len(comments) >= 2


def test_a_cancel_names_the_servers_id_of_the_call(plain, legacy, gate):
    client, held = legacy(plain), gate()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.call, "hold", "to-cancel", gate=held.path)
        held.reached()
        client.notify("notifications/cancelled", {"requestId": "to-cancel"})
        until(lambda: json.loads(client.text("cancelled")))
        assert call.result()["error"]["data"]["reason"] == "cancelled"
    (id,) = json.loads(client.text("cancelled"))
    assert isinstance(id, int)


def test_a_dropped_connection_is_no_cancel(start, legacy, gate):
    shim, held = start(), gate()
    client = legacy(shim)
    params = {"name": "hold", "arguments": {"gate": held.path}}
    body = {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": params}
    with posted(shim, client.headers, body):
        held.reached()
        assert shim.info()["in_flight"] == 1
    until(lambda: shim.info()["in_flight"] == 0)
    assert json.loads(client.text("cancelled")) == []
    held.open()
    until(lambda: shim.metric("calls_total", method="tools/call", outcome="ok") == 2)


def test_server_requests_reach_the_client_and_its_answers_the_server(plain, legacy):
    client = legacy(plain, {"sampling": {}})
    with client.stream("tools/call", {"name": "sample", "arguments": {"prompt": "hm?"}}) as response:
        stream = events(response)
        question = next(stream)
        assert question["method"] == "sampling/createMessage"
        assert question["params"]["messages"][0]["content"]["text"] == "hm?"
        client.respond(question["id"], {"role": "assistant", "content": {"type": "text", "text": "ah"}, "model": "m"})
        answer = next(stream)
    assert json.loads(answer["result"]["content"][0]["text"])["content"]["text"] == "ah"


def test_messages_that_belong_to_no_call_come_on_the_get_stream(start, legacy):
    client = legacy(start("--ask-roots-at-once"), {"roots": {}})
    with client.listen() as response:
        question = next(events(response))
    assert question["method"] == "roots/list"


def test_notifications_of_two_running_calls_come_on_the_get_stream(plain, legacy, gate):
    client, held = legacy(plain), gate()
    with client.listen() as response, ThreadPoolExecutor(2) as pool:
        stream = events(response)
        slow = pool.submit(client.call, "hold", gate=held.path)
        held.reached()
        client.call("change", method="notifications/tools/list_changed")
        assert next(stream)["method"] == "notifications/tools/list_changed"
        held.open()
        assert slow.result()["result"]


def test_delete_ends_the_session_and_its_process(start, legacy):
    shim = start(limits={"spares": 0})
    client = legacy(shim)
    pid = int(client.text("pid"))
    assert client.http.delete("/mcp", headers=client.headers).status_code == 200
    assert client.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).status_code == 404
    until(lambda: pid not in shim.servers())


def test_an_idle_session_ends_by_itself(start, legacy):
    shim = start(limits={"session_idle_seconds": 1.0})
    opened = initialize(shim)
    assert opened.status_code == 200
    until(lambda: shim.info()["sessions"] == 0)
    headers = {**ACCEPT, "Mcp-Session-Id": opened.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
    late = shim.http.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers)
    assert late.status_code == 404


def test_batches_are_answered_in_the_revision_that_had_them(plain, legacy):
    client = legacy(plain, version="2025-03-26")
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "a"}}},
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        {"jsonrpc": "2.0", "id": 1, "method": "nonsense"},
    ]
    answers = client.post(batch).json()
    assert {"result" in answer for answer in answers} == {True, False}
    assert all(answer["id"] == 1 for answer in answers)
    assert client.post([{"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}]).status_code == 202
    assert client.post([]).status_code == 400


def test_batches_are_refused_in_the_revisions_that_have_none(plain, legacy):
    client = legacy(plain)
    assert client.post([{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}]).status_code == 400


REFUSALS = {
    "no session": ({"Mcp-Session-Id": None}, 400),
    "unknown session": ({"Mcp-Session-Id": "0" * 32}, 404),
    "unknown version": ({"MCP-Protocol-Version": "2020-01-01"}, 400),
    "no event stream": ({"Accept": "application/json"}, 406),
    "no json": ({"Accept": "text/event-stream"}, 406),
    "other content": ({"Content-Type": "text/plain"}, 415),
    "foreign origin": ({"Origin": "http://evil.example"}, 403),
    "foreign host": ({"Host": "evil.example"}, 403),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_wrong_headers_are_refused(plain, legacy, case):
    changes, status = REFUSALS[case]
    client = legacy(plain)
    headers = {**client.headers, **changes}
    response = client.http.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
        headers={key: text for key, text in headers.items() if text is not None},
    )
    assert response.status_code == status
    assert response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"x"} trailing', -32700),
        (b"\xff\xfe", -32700),
        (b'{"jsonrpc":"1.0","id":1,"method":"x"}', -32600),
        (b'{"id":1,"method":"x"}', -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"x"}', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"x"}', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"x"}', -32600),
        (b"42", -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":' + b"[" * 5000 + b"]" * 5000 + b"}", -32700),
    ],
)
def test_a_body_that_is_no_message_is_refused_without_harm(plain, legacy, body, code):
    client = legacy(plain)
    response = client.http.post("/mcp", content=body, headers=client.headers)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == code
    assert client.text("echo", text="fine") == "fine"


def test_a_body_over_the_limit_is_refused_before_it_is_read(start, legacy):
    client = legacy(start(limits={"body_bytes": 10_000}))
    assert client.post({"jsonrpc": "2.0", "id": 1, "method": "x" * 20_000}).status_code == 413
    assert client.text("echo", text="y" * 5000) == "y" * 5000


def test_a_head_over_the_limit_is_refused(start):
    shim = start(limits={"header_bytes": 4096})
    assert shim.http.post("/mcp", headers={**ACCEPT, "X-Long": "x" * 5000}).status_code == 431


def test_other_methods_and_paths_are_refused(start):
    shim = start()
    assert shim.http.put("/mcp").status_code == 405
    assert "POST" in shim.http.put("/mcp").headers["allow"]
    assert shim.http.get("/elsewhere").status_code == 404
    assert shim.http.post("/health").status_code == 405


def test_names_given_by_configuration_are_allowed(start):
    shim = start(allowed_hosts=["mesh.example"], allowed_origins=["https://app.example"])
    good = {"Host": "mesh.example:8000", "Origin": "https://app.example"}
    assert shim.http.get("/health", headers=good).status_code == 200
    assert shim.http.get("/health", headers={**good, "Origin": "https://app.example.evil"}).status_code == 403


def test_a_chunked_body_is_read_too(plain, legacy):
    client = legacy(plain)
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"chunks"}}}'
    response = client.http.post("/mcp", content=iter([body[:20], body[20:50], body[50:]]), headers=client.headers)
    assert response.json()["result"]["content"][0]["text"] == "chunks"


def test_requests_sent_ahead_are_answered_in_order(plain, legacy):
    import socket

    shim = plain
    client = legacy(shim)
    with socket.create_connection(("127.0.0.1", shim.port)) as raw:
        whole = b""
        for n in range(3):
            body = json.dumps(
                {
                    "jsonrpc": "2.0",
                    "id": n,
                    "method": "tools/call",
                    "params": {"name": "echo", "arguments": {"text": "t" * n}},
                }
            )
            head = "".join(f"{key}: {text}\r\n" for key, text in client.headers.items())
            whole += (
                f"POST /mcp HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
        raw.sendall(whole)
        raw.settimeout(60)
        got = b""
        while got.count(b'"jsonrpc"') < 3:
            got += raw.recv(65536)
    assert got.index(b'"id":0') < got.index(b'"id":1') < got.index(b'"id":2')
