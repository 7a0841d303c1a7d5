"""What is observed of a Kong and what is done to it, with a small stand-in for its Admin API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcpmesh.errors import Broken, WorkloadError
from mcpmesh.ingress.kong.document import document_from_content
from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.ingress.kong.kong_control import KongControl
from mcpmesh.ingress.kong.kong_observer import KongObserver
from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.kit.packaged_files import resource_path
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.model.observed_state import Kong, KongContent, Unknown
from mcpmesh.settings import IngressSettings, KongSettings

EXTERNAL = "http://kong:8001"
OURS = Process(7, Mark("m", "/h", "kong", "m-ingress", "ingress", "d1", {"public": 1, "admin": 8444}))
DOCUMENT = document_from_content({"services": [{"name": "files"}]})


class Api:
    """Kong's Admin API: `hashes` are its answers about the document in turn, the last one for all further requests."""

    def __init__(self) -> None:
        self.hashes = ["h1"]
        self.requests: list[str] = []
        self.posted: list[Any] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(f"{request.method} {request.url}")
        if request.url.path == "/status":
            found = self.hashes.pop(0) if len(self.hashes) > 1 else self.hashes[0]
            return httpx.Response(200, json={"configuration_hash": found})
        if request.url.path == "/services":
            return httpx.Response(200, json={"data": [{"name": "files", "port": 7000, "tags": []}], "next": None})
        self.posted.append(json.loads(request.content))
        return httpx.Response(201, json={})


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
async def admin(api: Api) -> AsyncIterator[KongAdmin]:
    made = KongAdmin(httpx.MockTransport(api.answer))
    yield made
    await made.close()


def control(client: KongAdmin, folder: Path = Path("/h"), **settings: Any) -> KongControl:
    return KongControl("m", folder, IngressSettings(), KongSettings(**settings), client, PortAllocator(17300))


async def test_our_own_kong_is_observed_by_its_mark(admin: KongAdmin, api: Api) -> None:
    found = await KongObserver("m", admin, None, 30.0).observe(OURS, "0.0.0.0", 1)
    assert found == Kong(7, 1, False, KongContent("h1", {"files": 7000}), "d1")
    assert api.requests == [
        "GET http://127.0.0.1:8444/status",
        "GET http://127.0.0.1:8444/services?size=1000&tags=mcpmesh-owner:m",
        "GET http://127.0.0.1:8444/status",
    ]


async def test_an_external_kong_is_observed_at_its_address_without_pid_and_digest(admin: KongAdmin, api: Api) -> None:
    found = await KongObserver("m", admin, EXTERNAL, 30.0).observe(OURS, "127.0.0.1", 2)
    assert found == Kong(None, 2, False, KongContent("h1", {"files": 7000}), "")
    assert api.requests[0] == f"GET {EXTERNAL}/status"


async def test_without_a_process_and_an_address_there_is_no_kong(admin: KongAdmin) -> None:
    observer = KongObserver("m", admin, None, 30.0)
    assert await observer.observe(None, "127.0.0.1", 1) is None and observer.address(None) is None


async def test_the_same_document_is_read_once(admin: KongAdmin, api: Api) -> None:
    observer = KongObserver("m", admin, EXTERNAL, 30.0)
    await observer.observe(None, "127.0.0.1", 1)
    api.requests.clear()
    again = await observer.observe(None, "127.0.0.1", 1)
    assert again and again.content == KongContent("h1", {"files": 7000})
    assert api.requests == [f"GET {EXTERNAL}/status"]


async def test_a_document_that_changes_while_it_is_read_is_unknown(admin: KongAdmin, api: Api) -> None:
    api.hashes = ["h1", "h2"]
    observer = KongObserver("m", admin, EXTERNAL, 30.0)
    found = await observer.observe(None, "127.0.0.1", 1)
    assert found and found.content == Unknown("Kong was handed another document just now")


async def test_a_kong_that_does_not_answer_is_unknown_with_the_reason() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    admin = KongAdmin(httpx.MockTransport(refuse))
    observer = KongObserver("m", admin, EXTERNAL, 30.0)
    found = await observer.observe(None, "127.0.0.1", 1)
    assert found and found.content == Unknown(f"cannot reach the Admin API of Kong at {EXTERNAL}: refused")
    assert await observer.hash(EXTERNAL) is None
    await admin.close()


async def test_a_posted_document_goes_to_our_own_kong_as_text(admin: KongAdmin, api: Api) -> None:
    assert await control(admin).post(OURS, DOCUMENT) is False
    assert api.requests == ["POST http://127.0.0.1:8444/config"]
    assert api.posted == [{"config": DOCUMENT.text, "flatten_errors": True}]


async def test_a_document_posted_twice_was_lost_meanwhile(admin: KongAdmin) -> None:
    external = control(admin, admin=EXTERNAL)
    other = document_from_content({"services": []})
    assert [await external.post(None, each) for each in (DOCUMENT, DOCUMENT, other, DOCUMENT)] == [
        False,
        True,
        False,
        False,
    ]


async def test_an_external_kong_is_left_with_the_document_that_answers_503(admin: KongAdmin, api: Api) -> None:
    await control(admin, admin=EXTERNAL).close_routes()
    assert api.requests == [f"POST {EXTERNAL}/config"]
    assert api.posted[0]["config"] == resource_path("kong/waiting.yml").read_text()


async def test_a_kong_that_has_ended_gets_no_document(admin: KongAdmin) -> None:
    with pytest.raises(WorkloadError, match="it has ended meanwhile"):
        await control(admin).post(None, DOCUMENT)


async def test_an_error_keeps_the_document_from_counting_as_posted() -> None:
    codes = [500, 201, 201]
    admin = KongAdmin(httpx.MockTransport(lambda request: httpx.Response(codes.pop(0), json={"message": "full"})))
    external = control(admin, admin=EXTERNAL)
    with pytest.raises(Broken, match="HTTP 500, full"):
        await external.post(None, DOCUMENT)
    assert [await external.post(None, DOCUMENT), await external.post(None, DOCUMENT)] == [False, True]
    await admin.close()


async def test_without_a_program_kong_is_not_started(
    admin: KongAdmin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkloadError, match="there is none on PATH; install it, or set MCPMESH_KONG__BINARY"):
        control(admin, tmp_path).start("m-ingress", 8000, ())


def test_the_last_error_line_names_the_log(admin: KongAdmin, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "m-ingress.kong.log"
    log.parent.mkdir()
    log.write_text("Error: no space\nRun with --v\n")
    assert control(admin, tmp_path).last_error_line("m-ingress") == (
        f"the last line of its log: Error: no space (see {log})"
    )
