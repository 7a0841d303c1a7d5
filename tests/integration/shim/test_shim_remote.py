"""A remote Streamable HTTP server behind the shim, in both eras."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from running_shim import events, running, until


@pytest.fixture(scope="module", params=[[], ["--modern"]], ids=["legacy remote", "modern remote"])
def remote(request):
    """A shim whose server is another shim."""
    with running(*request.param) as origin, running(url=origin.wait_ready().url) as shim:
        yield shim.wait_ready()


def test_both_eras_are_served(remote, legacy, modern):
    assert legacy(remote).text("echo", text="old") == "old"
    assert modern(remote).text("echo", text="new") == "new"
    assert remote.info()["server"]["name"] == "fake"


def test_many_callers_of_the_same_ids_are_not_crossed(remote, modern):
    clients = [modern(remote) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda n: clients[n % 4].text("echo", text=str(n)), range(60)))
    assert said == [str(n) for n in range(60)]


def test_progress_and_large_answers_pass(remote, modern):
    client = modern(remote)
    *notes, _ = client.request("tools/call", {"name": "progress", "arguments": {"steps": 3}}, progressToken="t")
    assert [note["params"]["progressToken"] for note in notes] == ["t"] * 3
    assert len(client.text("big", bytes=3_000_000)) == 3_000_000


def test_mirrored_parameters_are_sent_on(remote, modern):
    client = modern(remote)
    body = client.body("tools/call", {"name": "mirrored", "arguments": {"region": "ü"}})
    assert "Unknown tool" in client.post(body, Mcp_Param_Region="=?base64?w7w=?=").text


@pytest.mark.parametrize(("words", "tool"), [([], "sample"), (["--modern"], "input")])
def test_requests_of_the_remote_server_reach_the_client(start, legacy, words, tool):
    shim = start(url=start(*words).url)
    client = legacy(shim, {"sampling": {}, "elicitation": {}})
    with client.stream("tools/call", {"name": tool, "arguments": {}}) as response:
        stream = events(response)
        question = next(stream)
        client.respond(question["id"], {"action": "accept"})
        assert "accept" in next(stream)["result"]["content"][0]["text"]


def test_a_cancel_reaches_the_remote(start, modern, gate):
    origin = start()
    shim = start(url=origin.url)
    client, other = modern(shim), modern(origin)
    params = {"name": "progress", "arguments": {"steps": 1, "gate": gate().path}}
    with client.stream("tools/call", params, progressToken=1) as response:
        next(events(response))
    until(lambda: json.loads(other.text("cancelled")))


def test_configured_headers_are_sent_and_not_shown(start, modern):
    origin = start(allowed_hosts=["public.example"])
    shim = start(url=origin.url, headers={"Host": "public.example", "Authorization": "Bearer s3cret"})
    assert modern(shim).text("echo", text="x") == "x"
    assert not any("s3cret" in line for line in shim.lines + origin.lines)


def test_an_unreachable_remote_server_is_reported_and_found_when_it_starts(start):
    # A port that is bound without a listener refuses connections, and no other program gets it by chance.
    with socket.socket() as spot:
        spot.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        spot.bind(("127.0.0.1", 0))
        port = spot.getsockname()[1]
        shim = start(url=f"http://127.0.0.1:{port}/mcp?key=s3cret", ready=False, limits={"backoff_max_seconds": 0.2})
        body = until(lambda: (b := shim.state())["state"] in ("restarting", "crash-loop") and b)
        assert f"cannot be reached at http://127.0.0.1:{port}/mcp " in body["error"]
        assert "s3cret" not in json.dumps(body)
        start(port=port)
        shim.wait_ready()
