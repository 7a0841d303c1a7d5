"""Requests reach the agent, and its answers and errors reach the client."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from tests.unit.api.conftest import Served

from mcpmesh.api.__main__ import description
from mcpmesh.errors import (
    Broken,
    CatalogError,
    MeshError,
    NotOurs,
    Problem,
    Refused,
    SettingsError,
    Unreachable,
    WorkloadError,
)
from mcpmesh.model.agent_reports import Claim

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def served(shared_server: Served) -> Served:
    shared_server.agent.reset()
    return shared_server


PUBLISHED = Path(__file__).parents[3] / "docs" / "openapi.json"


def lines(answer: httpx.Response) -> list[object]:
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.content.split(b"\n") if line]


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (Refused("cannot: no"), 409, "refused"),
        (NotOurs("cannot: theirs"), 409, "not-ours"),
        (Unreachable("cannot: away"), 503, "unreachable"),
        (Broken("cannot: 500"), 502, "broken"),
        (WorkloadError("cannot: exit 1"), 502, "workload"),
        (SettingsError("cannot: setting"), 500, "settings"),
        (MeshError("cannot: other"), 500, "error"),
    ],
)
async def test_each_error_has_its_status_and_keeps_its_sentence(
    served: Served, error: MeshError, status: int, name: str
) -> None:
    served.agent.error = error
    for answer in (await served.http.post("/v1/reload"), await served.http.post("/v1/verify", json={})):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == f"urn:mcpmesh:{name}"
        assert answer.json()["detail"] == str(error)


async def test_a_bad_catalog_lists_each_mistake(served: Served) -> None:
    served.agent.error = CatalogError([Problem(Path("/m.yaml"), 3, "services.a", "no command")])
    answer = await served.http.post("/v1/plan", json={"sources": ["/m.yaml"]})
    assert answer.status_code == 422
    assert answer.json()["problems"] == [{"path": "/m.yaml", "line": 3, "field": "services.a", "message": "no command"}]


async def test_an_error_after_the_first_line_is_the_last_line(served: Served) -> None:
    served.agent.late_error = Unreachable("cannot reach Consul: gone")
    first, last = lines(await served.http.post("/v1/verify", json={"services": ["files"]}))
    assert first == {"service": "files", "claim": "it answers", "ok": True, "evidence": "tools/list gave 14",
                     "next_step": ""}  # fmt: skip
    assert isinstance(last, dict)
    assert last["error"]["detail"] == "cannot reach Consul: gone"


async def test_an_unknown_service_is_404_with_the_nearest_name(served: Served) -> None:
    for answer in (
        await served.http.get("/v1/logs/fils"),
        await served.http.get("/v1/tools", params={"service": "fils"}),
        await served.http.post("/v1/verify", json={"services": ["files", "fils"]}),
        await served.http.post("/v1/call", json={"service": "fils", "tool": "x"}),
    ):
        assert answer.status_code == 404
        assert answer.json()["detail"] == 'cannot find service "fils" in mesh "default": did you mean "files"?'
    assert served.agent.asked == []


@pytest.mark.parametrize("name", ["..%2F..%2Fetc%2Fpasswd", "%00", "files%2F", "a" * 5000, "%F0%9F%98%80", "FILES"])
async def test_a_hostile_name_is_not_found_and_does_not_reach_the_agent(served: Served, name: str) -> None:
    answer = await served.http.get(f"/v1/logs/{name}")
    assert answer.status_code == 404
    assert len(answer.content) < 1000
    assert served.agent.asked == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/call", b""),
        ("/v1/call", b"{"),
        ("/v1/call", b"[]"),
        ("/v1/call", b"\xff\xfe"),
        ("/v1/call", b'{"service": "files", "tool": "x", "arguments": []}'),
        ("/v1/call", b'{"service": "files", "tool": "x", "argumentz": {}}'),
        ("/v1/call", b'{"service": 1, "tool": "x"}'),
        ("/v1/plan", b'{"sources": ["relative/mesh.yaml"]}'),
        ("/v1/plan", b'{"sources": "/mesh.yaml"}'),
        ("/v1/verify", b'{"services": "files"}'),
    ],
)
async def test_a_malformed_body_is_refused(served: Served, path: str, body: bytes) -> None:
    answer = await served.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert served.agent.asked == []


async def test_a_refusal_does_not_repeat_the_input(served: Served) -> None:
    answer = await served.http.post("/v1/call", json={"service": "files", "tool": ["hunter2"], "hunter2": {}})
    assert answer.status_code == 422
    assert "hunter2" not in answer.json()["detail"].replace("body.hunter2:", "")


async def test_a_deep_body_is_refused(served: Served) -> None:
    body = b'{"service": "files", "tool": "x", "arguments": {"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}}"
    answer = await served.http.post("/v1/call", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert served.agent.asked == []


async def test_a_body_beyond_the_limit_is_refused(served: Served) -> None:
    body = b'{"service": "files", "tool": "' + b"x" * (17 * 1024 * 1024) + b'"}'
    answer = await served.http.post("/v1/call", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert served.agent.asked == []


@pytest.mark.parametrize(
    "query", ["since=-1", "since=x", "follow=perhaps", "since=999999999999999999999999999999999999x"]
)
async def test_a_bad_query_is_refused(served: Served, query: str) -> None:
    answer = await served.http.get(f"/v1/events?{query}")
    assert answer.status_code == 422
    assert served.agent.asked == []


async def test_unknown_paths_and_methods_are_problems_too(served: Served) -> None:
    for answer, status in ((await served.http.get("/v1/nothing"), 404), (await served.http.get("/v1/down"), 405)):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    assert served.agent.asked == []


async def test_text_of_a_server_cannot_break_the_answer(served: Served) -> None:
    served.agent.claims = [Claim("files", "it answers", True, 'lone \ud800, line\u2028end, \x00, "quoted"\n')]
    (claim,) = lines(await served.http.post("/v1/verify", json={}))
    assert isinstance(claim, dict)
    assert claim["evidence"] == 'lone ?, line\u2028end, \x00, "quoted"\n'


async def test_the_published_description_is_current() -> None:
    assert PUBLISHED.read_text() == description(), "run: python -m mcpmesh.api > docs/openapi.json"


async def test_every_operation_is_described_with_its_refusals() -> None:
    described = json.loads(description())
    for path in described["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            assert operation["description"]
            assert list(operation["responses"]["default"]["content"]) == ["application/problem+json"]
            assert operation["security"] == [{"HTTPBearer": []}]
