"""Progress tokens chosen by a caller: no server gets one, so none can name another caller's call."""

from __future__ import annotations

import json
import threading
from itertools import product

import pytest
from running_shim import events

MINE = 424242
SPELLINGS = {
    "an escape": '"progress\\u0054oken": 424242',
    "other letters": '"ProgressToken": 424242',
    "both": '"progressToken": 424242, "PROGRESSTOKEN": 424242',
}


def content(client, tool: str, spelling: str, **arguments: object) -> str:
    """The body of a call with such a token."""
    if hasattr(client, "body"):
        body = client.body("tools/call", {"name": tool, "arguments": arguments}, mark=1)
    else:
        params = {"name": tool, "arguments": arguments, "_meta": {"mark": 1}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return json.dumps(body).replace('"mark": 1', SPELLINGS[spelling])


def headers(client, tool: str) -> dict[str, str]:
    return client.headers(client.body("tools/call", {"name": tool})) if hasattr(client, "body") else client.headers


@pytest.mark.parametrize("words", [(), ("--modern",)], ids=["legacy server", "modern server"])
@pytest.mark.parametrize("isolation", ["session", "shared", "request"])
def test_the_shims_token_is_the_only_one_that_a_server_sees(start, legacy, modern, isolation, words):
    shim = start(*words, isolation=isolation)
    for client, spelling in product((legacy(shim), modern(shim)), SPELLINGS):
        sent = content(client, "meta", spelling)
        answer = client.http.post("/mcp", content=sent, headers=headers(client, "meta")).json()
        meta = json.loads(answer["result"]["content"][0]["text"])
        tokens = {name: token for name, token in meta.items() if name.casefold() == "progresstoken"}
        assert set(tokens) <= {"progressToken"}, spelling
        assert MINE not in tokens.values(), spelling


def test_a_guessed_call_id_behind_an_escape_reaches_no_other_stream(start, modern, gate):
    shim, held = start("--modern", isolation="shared"), gate()
    other, victim = modern(shim), modern(shim)
    seen = []

    def listen() -> None:
        call = {"name": "progress", "arguments": {"steps": 2, "gate": held.path}}
        with victim.stream("tools/call", call, progressToken="mine") as response:
            seen.extend(events(response))

    thread = threading.Thread(target=listen)
    thread.start()
    held.reached()
    for guess in range(1, 9):
        sent = content(other, "progress", "an escape", steps=9).replace(str(MINE), str(guess))
        other.http.post("/mcp", content=sent, headers=headers(other, "progress"))
    held.open()
    thread.join()
    assert [message["params"]["progress"] for message in seen[:-1]] == [0, 1]
