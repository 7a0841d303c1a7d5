"""Calls that wait for their client's input: the retry reaches the process where they wait."""

from __future__ import annotations

import sys

import pytest
from running_shim import ROOT, running, until

FIXTURE = str(ROOT / "tests/conformance/server")
OWNER = "127.0.0.1:4711"
ELICITATION = {"elicitation": {}}
CONFIRM = "test_input_required_result_request_state"


def over(era, **config):
    """A shim over the official SDK's server of one era, which seals its states with a key of its process."""
    return running(command=sys.executable, args=[FIXTURE, era], **config)


@pytest.fixture(scope="module", params=["legacy", "modern"])
def owned(request):
    """A shim with a configured instance address."""
    with over(request.param, affinity=OWNER) as shim:
        yield shim.wait_ready()


def ask(client, tool=CONFIRM):
    """Call a tool that asks; returns the state and the keys of the input requests."""
    result = client.call(tool)["result"]
    assert result["resultType"] == "input_required"
    return result["requestState"], list(result["inputRequests"])


def again(client, state, keys, tool=CONFIRM):
    """Send the retry with the input; returns its answer."""
    return client.call(
        tool, more={"requestState": state, "inputResponses": {key: {"action": "accept"} for key in keys}}
    )


def test_a_state_ends_in_the_owners_address_and_the_server_never_sees_it(owned, modern):
    client = modern(owned, ELICITATION)
    state, keys = ask(client)
    assert state.endswith(f"@{OWNER}")
    assert again(client, state, keys)["result"]["content"][0]["text"] == "state-ok"


def test_several_rounds_each_have_a_state_of_their_own(owned, modern):
    client = modern(owned, ELICITATION)
    tool = "test_input_required_result_multi_round"
    states = set()
    answer = client.call(tool)
    while answer["result"]["resultType"] == "input_required":
        states.add(answer["result"]["requestState"])
        answer = again(client, answer["result"]["requestState"], answer["result"]["inputRequests"], tool)
    assert answer["result"]["content"][0]["text"] == "all rounds done"
    assert len(states) == 2
    assert all(state.endswith(f"@{OWNER}") for state in states)


def test_a_changed_state_is_refused(owned, modern):
    client = modern(owned, ELICITATION)
    state, keys = ask(client)
    changed = ("A" if state[0] != "A" else "B") + state[1:]
    assert again(client, changed, keys)["error"]["code"] == -32602


def test_the_state_of_another_instance_is_refused_in_a_way_that_ends_it(modern, owned):
    era = owned.info()["eras"][0]
    with over(era, affinity="127.0.0.1:4712") as other:
        state, keys = ask(modern(owned, ELICITATION))
        assert again(modern(other.wait_ready(), ELICITATION), state, keys)["error"]["code"] == -32602


@pytest.fixture(scope="module", params=["legacy", "modern"])
def each_its_own(request):
    """A shim with a process for each call."""
    with over(request.param, isolation="request", affinity=OWNER) as shim:
        yield shim.wait_ready()


def test_in_request_isolation_the_process_waits_for_the_retry(each_its_own, modern):
    client = modern(each_its_own, ELICITATION)
    state, keys = ask(client)
    assert each_its_own.metric("suspended") == 1
    assert again(client, state, keys)["result"]["content"][0]["text"] == "state-ok"
    assert each_its_own.metric("suspended") == 0
    assert again(client, state, keys)["error"]["code"] == -32602
    until(lambda: each_its_own.info()["children"] <= 2)


def test_a_retry_that_does_not_come_ends_the_process_that_waits(modern):
    with over("modern", isolation="request", limits={"input_seconds": 0.5, "spares": 0}) as shim:
        client = modern(shim.wait_ready(), ELICITATION)
        state, keys = ask(client)
        until(lambda: shim.info()["children"] == 1)
        assert again(client, state, keys)["error"]["code"] == -32602


def test_no_more_calls_wait_than_the_limit(modern):
    with over("modern", isolation="request", limits={"suspended": 1}) as shim:
        client = modern(shim.wait_ready(), ELICITATION)
        state, keys = ask(client)
        assert client.call(CONFIRM)["error"]["data"] == {"reason": "busy", "started": True}
        assert again(client, state, keys)["result"]["content"][0]["text"] == "state-ok"


# What the client can't be asked.


def test_a_legacy_server_that_can_do_without_an_answer_goes_on(modern):
    with over("legacy") as shim:
        client = modern(shim.wait_ready(), {"sampling": {}})
        tool = "test_input_required_result_capabilities"
        result = client.call(tool)["result"]
        ((key, request),) = result["inputRequests"].items()
        assert request["method"] == "sampling/createMessage"
        sampled = {"role": "assistant", "content": {"type": "text", "text": "hello"}, "model": "m"}
        more = {"requestState": result["requestState"], "inputResponses": {key: sampled}}
        assert client.call(tool, more=more)["result"]["content"][0]["text"] == "done"


def test_a_legacy_server_that_cannot_do_without_an_answer_names_what_the_client_lacks(modern):
    with over("legacy") as shim:
        client = modern(shim.wait_ready())
        response = client.post(client.body("tools/call", {"name": "test_missing_capability", "arguments": {}}))
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, -32021)
        assert error["data"]["requiredCapabilities"] == {"sampling": {}}


def test_in_request_isolation_abandoned_server_requests_leave_room_for_other_calls(modern):
    with over("modern", isolation="request", limits={"children": 4, "spares": 0}) as shim:
        client = modern(shim.wait_ready(), ELICITATION)
        (first, keys), *_, (last, last_keys) = [ask(client) for _ in range(4)]
        assert shim.metric("suspended") == 2
        assert "lapsed" in again(client, first, keys)["error"]["message"]
        assert again(client, last, last_keys)["result"]["content"][0]["text"] == "state-ok"
