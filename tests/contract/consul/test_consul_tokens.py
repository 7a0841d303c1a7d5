"""A real Consul that asks for tokens."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from tests.support.consul import Patient, RealConsul, running_consul

from mcpmesh.consul.client import Consul
from mcpmesh.consul.config_entries import service_entries
from mcpmesh.consul.registration import registration
from mcpmesh.errors import Refused
from mcpmesh.model.service import ServiceSpec, Stdio

FILES = ServiceSpec("files", Stdio("server"))
BOTH = registration(FILES, mesh="m", instance_id="files-1", port=1, sidecar_port=2, upstream_ports={}, info=None)
TOKEN = str(uuid.uuid4())


@pytest.fixture(scope="module")
def guarded(consul_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealConsul]:
    acl = {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": TOKEN, "agent": TOKEN}}
    with running_consul(consul_program, tmp_path_factory.mktemp("guarded"), acl=acl) as real:
        yield real


async def test_with_its_token_everything_can_be_done(guarded: RealConsul) -> None:
    consul = Consul(guarded.address, SecretStr(TOKEN), transport=Patient())
    for entry in service_entries(FILES, "m", "-- lua", "-- lua"):
        await consul.write_entry(entry)
    await consul.allow("caller", "files", "m")
    await consul.register(BOTH)
    assert (await consul.registrations("m")).keys() == {"files-1"}
    assert [(i.source, i.owner) for i in await consul.intentions()] == [("caller", "m")]
    assert (await consul.identity("files")).spiffe.endswith("/svc/files")
    with pytest.raises(AssertionError, match="Denied"):
        guarded.cli("intention", "check", "other", "files", token=TOKEN)
    await consul.close()


async def test_without_a_token_each_action_is_refused_with_the_next_step(
    guarded: RealConsul, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", TOKEN)  # meant for the consul command, not for us
    consul = Consul(guarded.address, transport=Patient())
    actions: dict[str, Callable[[], Awaitable[object]]] = {
        "write": lambda: consul.write_entry(service_entries(FILES, "m", "-- lua", "-- lua")[0]),
        "allow": lambda: consul.allow("caller", "files", "m"),
        "register": lambda: consul.register(BOTH),
        "deregister": lambda: consul.deregister("files-1"),
        "get a certificate": lambda: consul.identity("nobody-asked-yet"),
        "read the version": consul.version,
    }
    messages = {}
    for words, deed in actions.items():
        try:
            await deed()
        except Refused as refusal:
            messages[words] = str(refusal)
    await consul.close()
    assert messages.keys() == actions.keys()
    for words, sentence in messages.items():
        assert sentence.startswith(f"cannot {words}"), sentence
        assert sentence.endswith("; give a token that may do this (MCPMESH_CONSUL__TOKEN)"), sentence


async def test_the_token_is_never_part_of_an_address(guarded: RealConsul) -> None:
    seen: list[str] = []

    class Watching(Patient):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(f"{request.url}")
            return await super().handle_async_request(request)

    consul = Consul(guarded.address, SecretStr(TOKEN), transport=Watching())
    await consul.intentions()
    await consul.registrations("m")
    await consul.close()
    assert seen
    assert not any(TOKEN in url for url in seen)
