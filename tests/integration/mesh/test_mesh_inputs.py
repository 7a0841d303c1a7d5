"""A call that waits for its client's input: the retry reaches the instance, one of three, that asked for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.integration.mesh.traffic import META, load, modern, result
from tests.support.mesh import ROOT, RealMesh, python_program, real_mesh, wait_for

FIXTURE = str(ROOT / "tests/conformance/server")
TOOL = "test_input_required_result_request_state"
INSTANCES = 3
# More than envoy/caller.lua reads.
UNREAD_BYTES = 300_000


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMesh]:
    """Three instances of the SDK's server of each era; only the process that issued a request state can read it."""
    folder = tmp_path_factory.mktemp("three")
    fixture = {
        era: {"command": sys.executable, "args": [FIXTURE, era], "instances": INSTANCES, "allow": ["web"]}
        for era in ("legacy", "modern")
    }
    web = {"http": {"command": python_program("web.py")}, "upstreams": ["legacy", "modern"], "route": "/web"}
    with real_mesh(folder, {"services": {**fixture, "web": web}}, name="three") as mesh:
        mesh.up()
        mesh.wait_until_ready()
        yield mesh


def ways(era: str) -> list[str]:
    """The paths to a service: at the ingress, and through the sidecar of a service that has it as upstream."""
    return [f"mcp/{era}", f"web/via/{era}/mcp"]


BOTH_WAYS = pytest.mark.parametrize("way", [*ways("legacy"), *ways("modern")])


def post(http: httpx.Client, url: str, arguments: dict[str, Any], **params: Any) -> Any:
    """The answer to a call of a client that supports elicitation by forms."""
    headers, body = modern(TOOL, arguments)
    body["params"] |= params
    body["params"]["_meta"][f"{META}clientCapabilities"] = {"elicitation": {}}
    answer = http.post(url, headers=headers, json=body)
    assert answer.status_code in (200, 400), f"HTTP {answer.status_code}: {answer.text}"
    return result(answer)


def first_answer(http: httpx.Client, url: str, **arguments: Any) -> dict[str, Any]:
    """The answer of a call that asks for input."""
    first: dict[str, Any] = post(http, url, arguments)["result"]
    assert first["resultType"] == "input_required", first
    return first


def retry(http: httpx.Client, url: str, first: dict[str, Any], **arguments: Any) -> Any:
    """The answer of the retry that gives the input."""
    inputs = {key: {"action": "accept", "content": {"ok": True}} for key in first["inputRequests"]}
    return post(http, url, arguments, requestState=first["requestState"], inputResponses=inputs)


def owner(first: dict[str, Any]) -> str:
    return str(first["requestState"]).rpartition("@")[2]


def first_answers(http: httpx.Client, url: str) -> list[dict[str, Any]]:
    """Answers that ask for input, at least one from each instance.

    Each has to be retried: a call that waits for input keeps a server process, and there are few.
    """
    answers: list[dict[str, Any]] = []

    def all_instances_asked() -> bool:
        answers.append(first_answer(http, url))
        return len({owner(first) for first in answers}) == INSTANCES

    # An instance that stalls gets no calls for a while.
    if not any(all_instances_asked() for _ in range(2 * INSTANCES)):
        wait_for("all instances have asked for input", all_instances_asked)
    return answers


@BOTH_WAYS
def test_every_retry_reaches_the_instance_that_asked(three: RealMesh, way: str) -> None:
    url = f"{three.ingress}/{way}"
    with httpx.Client(timeout=60, trust_env=False) as http:
        for first in first_answers(http, url):
            answer = retry(http, url, first)
            assert answer["result"]["content"][0]["text"] == "state-ok", answer


@BOTH_WAYS
def test_every_retry_reaches_its_instance_while_others_call(three: RealMesh, way: str) -> None:
    url = f"{three.ingress}/{way}"

    def rounds(_: int) -> None:
        with httpx.Client(timeout=60, trust_env=False) as http:
            for _ in range(10):
                answer = retry(http, url, first_answer(http, url))
                assert answer["result"]["content"][0]["text"] == "state-ok", answer

    # A shim must know that a tool asks for input before it runs beside other calls (docs/decisions/0012).
    with httpx.Client(timeout=60, trust_env=False) as http:
        for first in first_answers(http, url):
            retry(http, url, first)
    with load(url, "test_simple_text", {}, workers=4) as others, ThreadPoolExecutor(3) as pool:
        list(pool.map(rounds, range(3)))
    assert others.failed == []


def test_long_and_streamed_calls_pass_unread(three: RealMesh) -> None:
    url = f"{three.ingress}/mcp/modern"
    headers, body = modern("json_schema_2020_12_tool", {"name": "x" * 4_000_000})
    with httpx.Client(timeout=60, trust_env=False) as http:
        assert len(http.post(url, headers=headers, json=body).content) > 4_000_000
        content = httpx.Request("POST", url, json=body).content
        pieces = (content[at : at + 60_000] for at in range(0, len(content), 60_000))
        streamed = http.post(url, headers={**headers, "Content-Type": "application/json"}, content=pieces)
        assert len(streamed.content) > 4_000_000


def test_a_retry_too_long_to_be_read_gets_a_final_answer(three: RealMesh) -> None:
    """From its own instance if it arrives there, else an error after which a client starts its call again."""
    url = f"{three.ingress}/mcp/modern"
    answers = []
    with httpx.Client(timeout=60, trust_env=False) as http:

        def reaches_another_instance() -> bool:
            first = first_answer(http, url, text="x" * UNREAD_BYTES)
            answers.append(retry(http, url, first, text="x" * UNREAD_BYTES))
            return "error" in answers[-1]

        # While the other instances stall, every retry reaches its own.
        elsewhere = [reaches_another_instance() for _ in range(12)]
        if not any(elsewhere):
            wait_for("a retry has reached another instance", reaches_another_instance)
    assert all("result" in answer or answer["error"]["code"] == -32602 for answer in answers), answers


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_retry_whose_instance_has_died_gets_an_error_to_start_again(three: RealMesh, era: str) -> None:
    url = f"{three.ingress}/mcp/{era}"
    with httpx.Client(timeout=60, trust_env=False) as http:
        first = first_answer(http, url)
        port = int(owner(first).rpartition(":")[2])
        (sidecar,) = [process for process in three.processes("sidecar", era) if port in process.mark.ports.values()]
        (shim,) = [s for s in three.processes("shim", era) if s.mark.instance == sidecar.mark.instance]
        three.kill(shim)

        def is_refused() -> bool:
            # Until the callers' Envoys know of its death, the connection fails.
            assert retry(http, url, first)["error"]["code"] == -32602
            return True

        wait_for("the retry is refused by another instance", is_refused)
        answer = retry(http, url, first_answer(http, url))
        assert answer["result"]["content"][0]["text"] == "state-ok"
    three.wait_until_ready()
