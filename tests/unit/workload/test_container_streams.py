"""Docker's streams, from an engine that sends them in pieces."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcpmesh.errors import Broken, MeshError, Refused, Unreachable
from mcpmesh.workload.containers.docker_engine import DockerEngine
from mcpmesh.workload.containers.docker_events import ContainerChanges
from mcpmesh.workload.containers.docker_streams import DockerStreams, unframed
from mcpmesh.workload.containers.log_copier import LogCopier


def frame(payload: bytes) -> bytes:
    return b"\x01\x00\x00\x00" + len(payload).to_bytes(4, "big") + payload


class Docker:
    """Answers each request with `status` and `pieces`, then waits for `over`; `requests` are the request lines."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix://{folder}/docker.sock"
        self.requests: list[str] = []
        self.status = 200
        self.pieces: list[bytes] = []
        self.over = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head.split(b"\r\n")[0].decode())
        writer.write(f"HTTP/1.1 {self.status} x\r\nConnection: close\r\n\r\n".encode())
        for piece in self.pieces:
            writer.write(piece)
            await writer.drain()
        await self.over.wait()
        writer.close()


@pytest.fixture
async def docker(tmp_path: Path) -> AsyncIterator[Docker]:
    made = Docker(tmp_path)
    async with await asyncio.start_unix_server(made.answer, made.address.removeprefix("unix://")):
        yield made
        made.over.set()


@pytest.fixture
async def streams(docker: Docker) -> AsyncIterator[DockerStreams]:
    made = DockerStreams(docker.address)
    yield made
    await made.close()


@pytest.fixture
async def engine(docker: Docker) -> AsyncIterator[DockerEngine]:
    made = DockerEngine(docker.address)
    yield made
    await made.close()


@pytest.mark.parametrize("size", [1, 3, 8, 9, 1000])
async def test_payloads_are_whole_however_the_stream_is_cut(size: int) -> None:
    payloads = [b"first\n", b"", b"x" * 300, b"last\n"]
    text = b"".join(map(frame, payloads))

    async def cut() -> AsyncIterator[bytes]:
        for start in range(0, len(text), size):
            yield text[start : start + size]

    assert [payload async for payload in unframed(cut())] == payloads


async def test_the_output_of_a_container_is_read_from_the_given_time_on(docker: Docker, streams: DockerStreams) -> None:
    docker.pieces = [frame(b"one\n"), frame(b"two\n")]
    docker.over.set()
    assert [payload async for payload in streams.output("abc", 12.5)] == [b"one\n", b"two\n"]
    assert docker.requests == ["GET /containers/abc/logs?stdout=1&stderr=1&follow=1&since=12.500000000 HTTP/1.1"]


async def test_a_container_that_is_gone_has_no_output(docker: Docker, streams: DockerStreams) -> None:
    docker.status, docker.pieces = 404, [b'{"message":"No such container"}']
    docker.over.set()
    assert [payload async for payload in streams.output("abc", 0)] == []


@pytest.mark.parametrize(("status", "error"), [(403, Refused), (500, Broken)])
async def test_a_refusal_by_docker_is_an_error_with_its_status(
    docker: Docker, streams: DockerStreams, status: int, error: type[MeshError]
) -> None:
    docker.status = status
    docker.over.set()
    with pytest.raises(error, match=f"HTTP {status}"):
        await anext(streams.events("a=b"))


async def test_only_the_first_refusal_of_each_kind_is_logged(
    docker: Docker, streams: DockerStreams, caplog: pytest.LogCaptureFixture
) -> None:
    docker.status = 403
    docker.over.set()
    for stream in [streams.output("abc", 0), streams.output("def", 0), streams.events("a=b")]:
        with pytest.raises(Refused):
            await anext(stream)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "cannot follow /containers/abc/logs",
        "cannot follow /events",
    ]


async def test_an_unreachable_docker_is_an_error_with_its_address(tmp_path: Path) -> None:
    streams = DockerStreams(f"unix://{tmp_path}/no.sock")
    try:
        with pytest.raises(Unreachable, match=r"no\.sock"):
            await anext(streams.output("abc", 0))
    finally:
        await streams.close()


async def test_a_change_is_reported_and_so_is_the_end_of_the_event_stream(docker: Docker, engine: DockerEngine) -> None:
    changes = ContainerChanges(engine)
    docker.pieces = [json.dumps({"Action": action}).encode() + b"\n" for action in ("exec_start: x", "die")]
    try:
        changes.start("a=b")
        await asyncio.wait_for(changes.wait_for_change(), 60)
        docker.pieces = []
        docker.over.set()
        await asyncio.wait_for(changes.wait_for_change(), 60)
    finally:
        await changes.close()


async def test_a_hundred_logs_are_copied_without_a_thread_for_each(
    docker: Docker, engine: DockerEngine, tmp_path: Path
) -> None:
    docker.pieces = [frame(b"output\n")]
    copier, threads = LogCopier(engine), threading.active_count()
    logs = [tmp_path / "logs" / f"{number}.log" for number in range(100)]
    try:
        for log in logs:
            copier.start(log.stem, log)
        async with asyncio.timeout(60):
            while not all(log.exists() and log.read_text() == "output\n" for log in logs):
                await asyncio.sleep(0.01)
        assert (len(docker.requests), threading.active_count()) == (100, threads)
    finally:
        await copier.close()


async def test_the_last_output_of_an_ended_container_is_in_its_log_when_the_copy_is_finished(
    docker: Docker, engine: DockerEngine, tmp_path: Path
) -> None:
    copier, log = LogCopier(engine), tmp_path / "time.log"
    docker.pieces = [frame(b"goodbye\n")]
    ending = asyncio.create_task(copier.finish("abc", log))
    docker.over.set()
    await ending
    assert log.read_text() == "goodbye\n"
