"""The client finds the agent, trusts only private files, and returns the agent's answers and errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from tests.unit.api.conftest import Served
from tests.unit.api.fake_operations import FILES, POSTGRES, READ_FILE, STATUS, FakeOperations

from mcpmesh.api import agent_lock, agent_record
from mcpmesh.api.agent_lookup import AgentDied, AgentNeverStarted
from mcpmesh.api.agent_record import AgentRecord
from mcpmesh.api.client import AgentClient
from mcpmesh.api.operations import Operations
from mcpmesh.api.problem_documents import NoAgent, UnknownService
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
from mcpmesh.model.agent_reports import Event, Level, Step


def operations(client: AgentClient, standin: FakeOperations) -> list[Operations]:
    """For the type checker: both are what the API is made for."""
    return [client, standin]


@asynccontextmanager
async def impostor(act: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """The address of a program that is not the agent; ends when all its connections have."""
    open_connections: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_connections.add(task)
        await act(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if open_connections:
            await asyncio.wait(open_connections, timeout=60)


async def enter(home: Path) -> None:
    async with AgentClient(home):
        pass


async def test_answers_arrive_complete(served: Served, client: AgentClient) -> None:
    agent = served.agent
    agent.steps = [Step("files", "start files-3"), Step("time", "wait for Consul", waiting=True)]
    agent.messages = [{"jsonrpc": "2.0", "method": "notifications/progress"}, {"jsonrpc": "2.0", "id": 1, "error": {}}]
    await agent.say("files: ready", Level.CHANGE, "files")
    assert await client.status() == STATUS
    assert [event async for event in client.events(0, follow=False)] == [
        Event(1, 1000.0, Level.CHANGE, "files: ready", "files")
    ]
    assert await client.plan([Path("/etc/mesh.yaml")]) == agent.steps
    assert [claim async for claim in client.verify(["files"])] == agent.claims
    assert await client.tools("files") == [READ_FILE]
    assert [message async for message in client.call("files", "read_file", {"path": "é\u2028"})] == agent.messages
    assert [line async for line in client.logs("files", 1, follow=False)] == ["second line"]
    await client.reload()
    await client.pause()
    assert (await client.status()).paused
    await client.resume()
    assert agent.asked == [
        ("events", 0, False),
        ("plan", Path("/etc/mesh.yaml")),
        ("verify", "files"),
        ("tools", "files"),
        ("call", "files", "read_file", {"path": "é\u2028"}),
        ("logs", "files", 1, False),
        ("reload",),
        ("pause",),
        ("resume",),
    ]


@pytest.mark.parametrize(
    "error",
    [
        CatalogError([Problem(Path("/m.yaml"), None, "services.a", "no command")]),
        SettingsError("cannot: setting"),
        Unreachable("cannot: away"),
        Broken("cannot: unreadable"),
        Refused("cannot: no"),
        NotOurs("cannot: theirs"),
        WorkloadError("cannot: exit 1"),
        MeshError("cannot: other"),
    ],
)
async def test_an_error_of_the_agent_is_raised_again_unchanged(
    served: Served, client: AgentClient, error: MeshError
) -> None:
    served.agent.error = error
    for again in (client.reload(), _all(client)):
        with pytest.raises(MeshError) as raised:
            await again
        assert type(raised.value) is type(error)
        assert str(raised.value) == str(error)
    served.agent.error, served.agent.late_error = None, error
    with pytest.raises(type(error)) as raised:
        await _all(client)
    assert str(raised.value) == str(error)


async def test_an_unknown_service_has_an_error_of_its_own(client: AgentClient) -> None:
    with pytest.raises(UnknownService, match='did you mean "files"'):
        [line async for line in client.logs("../files", 1, follow=False)]


async def test_a_line_break_of_unicode_does_not_end_a_line(served: Served, client: AgentClient) -> None:
    served.agent.log = ["one\u2028two\u0085three\x1cfour\rfive"]
    assert [line async for line in client.logs("files", 10, follow=False)] == served.agent.log


async def test_a_very_long_line_arrives(served: Served, client: AgentClient) -> None:
    served.agent.log = ["x" * 5_000_000]
    assert [line async for line in client.logs("files", 10, follow=False)] == served.agent.log


async def test_services_that_failed_arrive_with_their_reason(served: Served, client: AgentClient) -> None:
    served.agent.mesh_status = served.agent.mesh_status.__class__(
        **{**served.agent.mesh_status.__dict__, "services": (FILES, POSTGRES)}
    )
    assert (await client.status()).services == (FILES, POSTGRES)


async def test_without_an_agent_the_error_shows_how_to_start_one(home: Path) -> None:
    with pytest.raises(AgentNeverStarted) as raised:
        await enter(home)
    assert str(raised.value) == (
        'cannot reach the agent of mesh "default": none is running; start it with: mcpmesh up -f mesh.yaml'
    )


async def test_the_advice_names_the_mesh(tmp_path: Path) -> None:
    with pytest.raises(AgentNeverStarted, match=r"mcpmesh --name staging up -f mesh\.yaml"):
        await enter(tmp_path / "staging")


async def test_a_dead_agent_is_not_taken_for_one_that_never_started(home: Path) -> None:
    with agent_lock.hold(home):
        agent_record.create_token(home)
        agent_record.write(home, AgentRecord(4711, "http://127.0.0.1:9", 1000.0, "0.1.0"))
    with pytest.raises(AgentDied) as raised:
        await enter(home)
    assert str(raised.value) == (
        'cannot reach the agent of mesh "default": process 4711 died without taking its services down; '
        "to keep what still runs: mcpmesh up; to stop it: mcpmesh down"
    )


async def test_an_agent_that_is_starting_is_neither_dead_nor_missing(home: Path) -> None:
    with agent_lock.hold(home), pytest.raises(NoAgent, match="starting or stopping") as raised:
        await enter(home)
    assert not isinstance(raised.value, AgentDied | AgentNeverStarted)


async def test_the_token_is_not_sent_where_a_dead_agent_listened(home: Path) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(10_000))

    async with impostor(listen) as address:
        with agent_lock.hold(home):
            agent_record.create_token(home)
            agent_record.write(home, AgentRecord(4711, address, 1000.0, "0.1.0"))
        with pytest.raises(AgentDied):
            await enter(home)
    assert heard == []


async def test_an_agent_that_dies_during_a_request_is_reported_as_dead(home: Path) -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        lock.__exit__(None, None, None)

    lock = agent_lock.hold(home)
    lock.__enter__()
    async with impostor(die) as address:
        agent_record.create_token(home)
        agent_record.write(home, AgentRecord(4711, address, 1000.0, "0.1.0"))
        async with AgentClient(home) as client:
            with pytest.raises(AgentDied, match="process 4711 died"):
                await client.status()


@pytest.mark.parametrize(
    "answer",
    [b"<html>hello</html>", b'"text"', b"{", b'{"name": "default"}', b'{"services": 5}', b"[]", b"\xff"],
)
async def test_the_answer_of_another_program_is_an_error(home: Path, answer: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()

    async with impostor(speak) as address:
        with agent_lock.hold(home):
            agent_record.create_token(home)
            agent_record.write(home, AgentRecord(1, address, 1000.0, "0.1.0"))
            async with AgentClient(home) as client:
                with pytest.raises(Broken, match="cannot understand the agent"):
                    await client.status()


async def test_an_agent_that_does_not_answer_in_time_is_an_error(home: Path) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with impostor(hold) as address:
        with agent_lock.hold(home):
            agent_record.create_token(home)
            agent_record.write(home, AgentRecord(4711, address, 1000.0, "0.1.0"))
            async with AgentClient(home, answer_seconds=0.1) as client:
                with pytest.raises(NoAgent, match=r"process 4711.*took too long"):
                    await client.status()


async def test_a_token_that_others_can_read_is_refused(served: Served) -> None:
    (served.home / "token").chmod(0o644)
    with pytest.raises(Refused, match=r"other users may read it \(mode 0644\).*chmod 600"):
        await enter(served.home)


async def test_a_token_behind_a_link_is_refused(served: Served, tmp_path: Path) -> None:
    (served.home / "token").rename(tmp_path / "elsewhere")
    (served.home / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="cannot read"):
        await enter(served.home)


async def test_the_token_never_leaves_this_machine(served: Served) -> None:
    agent_record.write(served.home, AgentRecord(1, "http://192.0.2.1:80", 1000.0, "0.1.0"))
    with pytest.raises(Refused, match="not on this machine"):
        await enter(served.home)


async def test_a_damaged_record_is_an_error(served: Served) -> None:
    path = served.home / "agent.json"
    path.write_text(json.dumps({"pid": "many"}))
    with pytest.raises(Broken, match="it is damaged"):
        await enter(served.home)


async def test_an_older_token_is_refused_with_the_reason(served: Served, client: AgentClient) -> None:
    del client
    agent_record.create_token(served.home)
    async with AgentClient(served.home) as late:
        with pytest.raises(Refused, match="does not take the token"):
            await late.status()


async def _all(client: AgentClient) -> list[object]:
    return [claim async for claim in client.verify([])]
