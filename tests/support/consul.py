"""A real Consul on free loopback ports, with the configuration that the program hands to its own.

A test's conftest imports the fixtures it needs. Without a Consul the tests
fail: `make consul-binary` prepares one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.ports import CONSUL_PORTS

from mcpmesh.consul.binary import find_or_make
from mcpmesh.consul.client import Consul
from mcpmesh.kit.packaged_files import resource_path
from mcpmesh.settings import read_settings


@dataclass(frozen=True)
class RealConsul:
    """A running Consul."""

    address: str
    grpc_address: str
    binary: Path

    def cli(self, *words: str, token: str | None = None) -> str:
        """Runs the `consul` command as a person does; raises CalledProcessError with its output on failure."""
        environment = {"CONSUL_HTTP_ADDR": self.address, "PATH": os.environ["PATH"]}
        if token is not None:
            environment["CONSUL_HTTP_TOKEN"] = token
        done = subprocess.run([self.binary, *words], env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise AssertionError(f"consul {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def put(self, path: str, body: Any) -> Any:
        """A write through the HTTP API, as a person makes it."""
        answer = httpx.put(f"{self.address}{path}", json=body, trust_env=False, timeout=120)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        """Consul's answer to a GET; None for a 404."""
        answer = httpx.get(f"{self.address}{path}", trust_env=False, timeout=120)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        return answer.json()


def consul_binary() -> Path:
    """The real program that the settings name."""
    settings = read_settings()
    version, configured = settings.consul.version, settings.consul.binary
    return asyncio.run(find_or_make(version, cache_dir=settings.cache_dir, configured=configured, progress=print))


@contextlib.contextmanager
def running_consul(binary: Path, folder: Path, **settings: Any) -> Iterator[RealConsul]:
    """A Consul with our configuration and `settings`; it ends with the block, or with this process."""
    ports = {name: CONSUL_PORTS.take() for name in ("http", "grpc", "serf_lan", "server")}
    machine: dict[str, Any] = {
        "node_name": "test",
        "data_dir": str(folder / "data"),
        "log_level": "WARN",
        "ports": {**ports, "dns": -1, "https": -1, "grpc_tls": -1, "serf_wan": -1},
        **settings,
    }
    ports = machine["ports"]
    (folder / "machine.json").write_text(json.dumps(machine))
    setpriv = shutil.which("setpriv")
    mortal = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    agent = [str(binary), "agent", "-config-file", str(resource_path("consul/server.hcl"))]
    with (folder / "consul.log").open("wb") as log:
        process = subprocess.Popen(
            [*mortal, *agent, "-config-file", str(folder / "machine.json")], stdout=log, stderr=log
        )
    try:
        consul = RealConsul(f"http://127.0.0.1:{ports['http']}", f"127.0.0.1:{ports['grpc']}", binary)
        _wait_until_ready(consul, process, folder / "consul.log")
        yield consul
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(consul: RealConsul, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, f"Consul ended: {log.read_text()}"
        with contextlib.suppress(httpx.HTTPError):
            roots = httpx.get(f"{consul.address}/v1/connect/ca/roots", trust_env=False, timeout=30)
            # With ACLs on this is forbidden, which is an answer too.
            if roots.status_code == httpx.codes.FORBIDDEN or (roots.is_success and roots.json()["TrustDomain"]):
                return
        time.sleep(0.05)
    raise AssertionError(f"Consul was not ready in 120 s: {log.read_text()}")


@pytest.fixture(scope="session")
def consul_program() -> Path:
    """Consul's binary."""
    return consul_binary()


@pytest.fixture(scope="session")
def real_consul(consul_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealConsul]:
    """One Consul for the whole run; tests use different names."""
    with running_consul(consul_program, tmp_path_factory.mktemp("consul")) as consul:
        yield consul


@pytest.fixture
async def consul(real_consul: RealConsul) -> AsyncIterator[Consul]:
    """Our client for that Consul."""
    client = Consul(real_consul.address, transport=Patient())
    yield client
    await client.close()


@pytest.fixture
def name() -> str:
    """A service name that no other test uses."""
    return f"svc-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def mesh() -> str:
    """A mesh that no other test uses."""
    return f"mesh-{uuid.uuid4().hex[:10]}"


class Patient(httpx.AsyncHTTPTransport):
    """Waits longer for answers than the product does: a test machine may stall."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "timeout": httpx.Timeout(120).as_dict()}
        return await super().handle_async_request(request)


class Interposed(httpx.AsyncBaseTransport):
    """Calls `act` just before the first request for which `at` is true."""

    def __init__(self, at: Callable[[httpx.Request], bool], act: Callable[[], object]) -> None:
        self._inner = Patient()
        self._at = at
        self._act: Callable[[], object] | None = act

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._act is not None and self._at(request):
            act, self._act = self._act, None
            act()
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def interposed(
    real: RealConsul,
    at: Callable[[httpx.Request], bool],
    act: Callable[[], object],
    action: Callable[[Consul], Awaitable[None]],
) -> None:
    """Calls `action` with a client of its own, and `act` in the middle of it."""
    consul = Consul(real.address, transport=Interposed(at, act))
    try:
        await action(consul)
    finally:
        await consul.close()


def entry_write(request: httpx.Request) -> bool:
    """Whether this request changes a config entry."""
    return request.method in ("PUT", "DELETE") and request.url.path.startswith("/v1/config")
