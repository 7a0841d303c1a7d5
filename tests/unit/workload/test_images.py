"""Which image Docker pulls for each form of name in the catalog, and how its progress is reported."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from mcpmesh.errors import WorkloadError
from mcpmesh.workload.containers.docker_engine import DockerEngine
from mcpmesh.workload.containers.images import Images


class Docker(ThreadingHTTPServer):
    """An engine without images, which notes what it has to pull."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.pulls: list[tuple[str, str]] = []
        self.error = "no network"
        self.progress: list[dict[str, object]] = []
        self.answered = threading.Event()
        self.answered.set()
        self.address = f"tcp://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Docker
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"ApiVersion": "1.45"}) if self.path == "/version" else self._answer(
            404, {"message": "No such image"}
        )

    def do_POST(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.server.pulls.append((query["fromImage"][0], query["tag"][0]))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in self.server.progress:
            self._chunk(json.dumps(line).encode())
        self.server.answered.wait(60)
        self._chunk(json.dumps({"error": self.server.error}).encode())
        self._chunk(b"")

    def _chunk(self, payload: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(payload), payload))

    def _answer(self, status: int, payload: dict[str, str]) -> None:
        body = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def docker() -> Iterator[Docker]:
    with Docker() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "pulled"),
    [
        ("mcp/time", ("mcp/time", "latest")),
        ("mcp/time:1.2", ("mcp/time", "1.2")),
        ("host:5000/time", ("host:5000/time", "latest")),
        ("host:5000/time:1.2", ("host:5000/time", "1.2")),
        (f"ghcr.io/o/time@{DIGEST}", ("ghcr.io/o/time", DIGEST)),
    ],
)
async def test_an_image_is_pulled_by_its_tag_its_digest_or_as_latest(
    docker: Docker, image: str, pulled: tuple[str, str]
) -> None:
    engine = DockerEngine(docker.address)
    images = Images(engine)
    with pytest.raises(WorkloadError, match="is being pulled"):
        await images.require(image)
    async with asyncio.timeout(60):
        while not await failed(images, image):
            await asyncio.sleep(0.01)
    assert set(docker.pulls) == {pulled}
    await engine.close()


async def test_the_reason_of_a_failed_pull_is_kept_while_it_is_tried_again(docker: Docker) -> None:
    engine = DockerEngine(docker.address)
    images = Images(engine)
    async with asyncio.timeout(60):
        while not await failed(images, "mcp/time"):
            await asyncio.sleep(0.01)
        docker.answered.clear()
        tries = len(docker.pulls)
        while len(docker.pulls) == tries:
            assert await failed(images, "mcp/time")
            await asyncio.sleep(0.01)
        # Docker has been asked again, and has not answered yet.
        assert await failed(images, "mcp/time")
    docker.answered.set()
    await engine.close()


async def test_the_progress_of_a_pull_is_reported_while_it_runs(docker: Docker) -> None:
    docker.answered.clear()
    docker.progress = [
        {"status": "Pulling from mcp/time", "id": "latest"},
        {"id": "a", "progressDetail": {"current": 1_000_000, "total": 30_000_000}},
        {"id": "b", "progressDetail": {}},
        {"id": "b", "progressDetail": {"current": 2_000_000, "total": 10_000_000}},
        {"id": "a", "progressDetail": {"current": 8_000_000, "total": 30_000_000}},
    ]
    engine = DockerEngine(docker.address)
    images = Images(engine)
    async with asyncio.timeout(60):
        while "(25 % of 40 MB so far)" not in await reason_for(images, "mcp/time"):
            await asyncio.sleep(0.01)
    docker.answered.set()
    await engine.close()


async def test_a_full_disk_is_reported_with_its_own_next_step(docker: Docker) -> None:
    docker.error = "write /var/lib/docker/tmp/GetImageBlob1: no space left on device"
    engine = DockerEngine(docker.address)
    images = Images(engine)
    async with asyncio.timeout(60):
        while not (reason := await reason_for(images, "mcp/time")).startswith("cannot pull"):
            await asyncio.sleep(0.01)
    assert reason == f"cannot pull the image mcp/time: {docker.error}; see: docker system df"
    await engine.close()


async def failed(images: Images, image: str) -> bool:
    """Whether the pull has failed."""
    return "no network" in await reason_for(images, image)


async def reason_for(images: Images, image: str) -> str:
    """Why the image is not there yet."""
    with pytest.raises(WorkloadError) as caught:
        await images.require(image)
    return str(caught.value)
