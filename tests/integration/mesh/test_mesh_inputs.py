"""A call that waits for its client's input: the retry reaches the one instance of three that asked for it."""

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
# More than envoy/caller.lua looks into.
UNSEEN_BYTES = 300_000


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMesh]:
    """Three instances of the SDK's server of each era, whose states only the process that gave them can read."""
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
    """At the ingress, and through the sidecar of a service that calls it as its upstream."""
    return [f"mcp/{era}", f"web/via/{era}/mcp"]


BOTH_WAYS = pytest.mark.parametrize("way", [*ways("legacy"), *ways("modern")])


def post(http: httpx.Client, url: str, arguments: dict[str, Any], **params: Any) -> Any:
    """The answer to a call of a client that can be asked by a form."""
    headers, body = modern(TOOL, arguments)
    body["params"] |= params
    body["params"]["_meta"][f"{META}clientCapabilities"] = {"elicitation": {}}
    answer = http.post(url, headers=headers, json=body)
    assert answer.status_code in (200, 400), f"HTTP {answer.status_code}: {answer.text}"
    return result(answer)


def asked(http: httpx.Client, url: str, **arguments: Any) -> dict[str, Any]:
    """What a call is answered with that asks for input."""
    first: dict[str, Any] = post(http, url, arguments)["result"]
    assert first["resultType"] == "input_required", first
    return first


def retried(http: httpx.Client, url: str, first: dict[str, Any], **arguments: Any) -> Any:
    """The answer to the retry with that input."""
    inputs = {key: {"action": "accept", "content": {"ok": True}} for key in first["inputRequests"]}
    return post(http, url, arguments, requestState=first["requestState"], inputResponses=inputs)


def owner(first: dict[str, Any]) -> str:
    return str(first["requestState"]).rpartition("@")[2]


@BOTH_WAYS
def test_every_retry_reaches_the_instance_that_asked(three: RealMesh, way: str) -> None:
    url = f"{three.ingress}/{way}"
    with httpx.Client(timeout=60, trust_env=False) as http:
        waiting: list[dict[str, Any]] = []

        def all_were_asked() -> bool:
            waiting.append(asked(http, url))
            return len({owner(first) for first in waiting}) == INSTANCES

        # One that stands still is not asked for a while.
        if not any(all_were_asked() for _ in range(2 * INSTANCES)):
            wait_for("all instances were asked", all_were_asked)
        for first in {owner(first): first for first in waiting}.values():
            answer = retried(http, url, first)
            assert answer["result"]["content"][0]["text"] == "state-ok", answer


@BOTH_WAYS
def test_that_holds_while_others_call(three: RealMesh, way: str) -> None:
    url = f"{three.ingress}/{way}"

    def rounds(_: int) -> None:
        with httpx.Client(timeout=60, trust_env=False) as http:
            for _ in range(10):
                answer = retried(http, url, asked(http, url))
                assert answer["result"]["content"][0]["text"] == "state-ok", answer

    with load(url, "test_simple_text", {}, workers=4) as others, ThreadPoolExecutor(3) as pool:
        list(pool.map(rounds, range(3)))
    assert others.failed == []


def test_long_and_streamed_calls_pass_though_nobody_looks_into_them(three: RealMesh) -> None:
    url = f"{three.ingress}/mcp/modern"
    headers, body = modern("json_schema_2020_12_tool", {"name": "x" * 4_000_000})
    with httpx.Client(timeout=60, trust_env=False) as http:
        assert len(http.post(url, headers=headers, json=body).content) > 4_000_000
        content = httpx.Request("POST", url, json=body).content
        pieces = (content[at : at + 60_000] for at in range(0, len(content), 60_000))
        streamed = http.post(url, headers={**headers, "Content-Type": "application/json"}, content=pieces)
        assert len(streamed.content) > 4_000_000


def test_a_retry_that_nobody_could_look_into_is_answered_for_good(three: RealMesh) -> None:
    """By its own instance if it came there, else with an error after which a client begins anew."""
    url = f"{three.ingress}/mcp/modern"
    answers = []
    with httpx.Client(timeout=60, trust_env=False) as http:

        def came_elsewhere() -> bool:
            first = asked(http, url, text="x" * UNSEEN_BYTES)
            answers.append(retried(http, url, first, text="x" * UNSEEN_BYTES))
            return "error" in answers[-1]

        # While the others stand still, each comes back.
        came = [came_elsewhere() for _ in range(12)]
        if not any(came):
            wait_for("a retry has come to another instance", came_elsewhere)
    assert all("result" in answer or answer["error"]["code"] == -32602 for answer in answers), answers


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_retry_whose_instance_has_died_is_told_to_begin_anew(three: RealMesh, era: str) -> None:
    url = f"{three.ingress}/mcp/{era}"
    with httpx.Client(timeout=60, trust_env=False) as http:
        first = asked(http, url)
        port = int(owner(first).rpartition(":")[2])
        (sidecar,) = [process for process in three.processes("sidecar", era) if port in process.mark.ports.values()]
        (shim,) = [s for s in three.processes("shim", era) if s.mark.instance == sidecar.mark.instance]
        three.kill(shim)

        def told() -> bool:
            # Until the callers know, the connection to it fails.
            assert retried(http, url, first)["error"]["code"] == -32602
            return True

        wait_for("the retry is refused by another instance", told)
        answer = retried(http, url, asked(http, url))
        assert answer["result"]["content"][0]["text"] == "state-ok"
    three.wait_until_ready()
