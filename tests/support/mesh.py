"""A whole mesh as a person runs it: the real command line, Consul, Envoys and servers, in a state folder of its own.

A test module asks `start_mesh` for one (starting takes seconds, so tests of a
module share it); when the module ends it is taken down, and whatever of it
still runs then fails the run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx
import pytest
import yaml
from tests.support.consul import consul_binary

from mcpmesh.kit.process import Process, marked

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TIME_SERVER = EXAMPLES / ".venv/bin/mcp-server-time"
GIT_SERVER = EXAMPLES / ".venv/bin/mcp-server-git"

# Machines may be slow; none is slower than this.
COMMAND_SECONDS = 120.0
UP_SECONDS = 240.0


@dataclass(frozen=True)
class RunningMesh:
    """One mesh that runs; `env` is what every command of it needs."""

    name: str
    home: Path
    ingress_url: str
    consul_url: str
    env: Mapping[str, str]
    catalog: Path
    consul_program: Path

    # --- what a person types

    def run(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """`mcpmesh --name … words`; with `code`, that has to be its exit code."""
        return _mcpmesh(self.name, self.env, words, code, COMMAND_SECONDS)

    def json(self, *words: str, code: int | None = 0) -> Any:
        """The one JSON value that a command prints."""
        return json.loads(self.run(*words, "--json", code=code).stdout)

    def lines(self, *words: str, code: int | None = 0) -> list[Any]:
        """The JSON values that a command prints, one a line."""
        return [json.loads(line) for line in self.run(*words, "--json", code=code).stdout.splitlines()]

    def consul(self, *words: str) -> str:
        """The `consul` command against this mesh's Consul."""
        environment = {"CONSUL_HTTP_ADDR": self.consul_url, "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [self.consul_program, *words], env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
        assert done.returncode == 0, f"consul {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    # --- what can be seen

    def get(self, path: str) -> Any:
        """What Consul's HTTP API answers."""
        answer = httpx.get(f"{self.consul_url}{path}", trust_env=False, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def put(self, path: str, body: Any) -> None:
        """A write to Consul's HTTP API."""
        httpx.put(f"{self.consul_url}{path}", json=body, trust_env=False, timeout=30).raise_for_status()

    def processes(self, role: str, service: str | None = None) -> list[Process]:
        """Its live processes in this role."""
        return [
            process
            for process in marked(self.home)
            if process.mark.role == role and service in (None, process.mark.service)
        ]

    def one(self, role: str, service: str | None = None) -> Process:
        """Its only process in this role."""
        found = self.processes(role, service)
        assert len(found) == 1, f"{len(found)} processes of role {role}"
        return found[0]

    def api(self, method: str, path: str) -> httpx.Response:
        """What the agent's API answers, without the second that a command takes to start."""
        address = json.loads((self.home / "agent.json").read_text())["address"]
        token = {"Authorization": f"Bearer {(self.home / 'token').read_text().strip()}"}
        answer = httpx.request(method, f"{address}{path}", headers=token, trust_env=False, timeout=COMMAND_SECONDS)
        answer.raise_for_status()
        return answer

    def ready(self) -> bool:
        """Whether everything wanted is there, and nothing is left to do."""
        status = self.api("GET", "/v1/status").json()
        return bool(
            status["in_sync"]
            and status["ingress_ready"]
            and all(service["state"] == "ready" for service in status["services"])
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is healed inside the block; after it, everything is before anybody goes on."""
        self.api("POST", "/v1/pause")
        try:
            yield
        finally:
            self.api("POST", "/v1/resume")
            wait_for("the mesh has healed", self.ready)


class StartMesh(Protocol):
    """Starts a mesh from a catalog's text, its mapping, or a file; more settings as environment variables."""

    def __call__(self, catalog: str | Path | Mapping[str, Any], **environment: str) -> RunningMesh: ...


@pytest.fixture(scope="module")
def start_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartMesh]:
    """Meshes that live as long as the module's tests."""
    started: list[tuple[str, Path, dict[str, str]]] = []

    def start(catalog: str | Path | Mapping[str, Any], **environment: str) -> RunningMesh:
        name = f"test-{os.getpid()}-{len(started) + 1}"
        folder = tmp_path_factory.mktemp("mesh")
        env = _environment(folder, len(started), environment)
        path = _written(catalog, folder)
        home = folder / "state" / "mcpmesh" / name
        started.append((name, home, env))
        _mcpmesh(name, env, ("up", "-f", str(path), "--detach"), 0, UP_SECONDS)
        status = json.loads(_mcpmesh(name, env, ("status", "--json"), None, COMMAND_SECONDS).stdout)
        mesh = RunningMesh(
            name=name,
            home=home,
            ingress_url=status["ingress"],
            consul_url=status["consul"],
            env=env,
            catalog=path,
            consul_program=consul_binary(),
        )
        wait_for("the mesh is in sync", mesh.ready)
        return mesh

    yield start
    left = [problem for name, home, env in started for problem in _taken_down(name, home, env)]
    assert not left, "; ".join(left)


def wait_for(what: str, look: Callable[[], T], seconds: float = 90.0) -> T:
    """What `look` returns, as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)
    return found


def need(*programs: Path) -> None:
    """Fails where a real server is not installed."""
    for program in programs:
        if not program.exists():
            pytest.fail(f"the example server {program.relative_to(ROOT)} is not installed; run: make setup")


def _mcpmesh(
    name: str, env: Mapping[str, str], words: tuple[str, ...], code: int | None, seconds: float
) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "mcpmesh", "--name", name, *words]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=seconds)
    said = f"mcpmesh {' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert code is None or done.returncode == code, said
    return done


def _environment(folder: Path, number: int, more: Mapping[str, str]) -> dict[str, str]:
    """That of whoever runs the tests, without what they have set for meshes of their own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MCPMESH_", "CONSUL_"))}
    # Runs side by side look for ports in different places.
    base = 28000 + (os.getpid() + number) % 44 * 100
    settings = {
        "XDG_STATE_HOME": str(folder / "state"),
        "MCPMESH_PORTS__INFRASTRUCTURE": str(base),
        "MCPMESH_INGRESS__PORT": str(base + 10),
        "MCPMESH_PORTS__SERVICES": str(base + 20),
        # Also where a Kong is on PATH.
        "MCPMESH_INGRESS__KIND": "api-gateway",
    }
    return kept | settings | dict(more)


def _written(catalog: str | Path | Mapping[str, Any], folder: Path) -> Path:
    if isinstance(catalog, Path):
        return catalog
    path = folder / "mesh.yaml"
    path.write_text(catalog if isinstance(catalog, str) else yaml.safe_dump({"version": 1, **catalog}, sort_keys=False))
    return path


def _taken_down(name: str, home: Path, env: Mapping[str, str]) -> list[str]:
    """Takes a mesh down, whatever tests have made of it; what went wrong with that, in words."""
    for process in marked(home):
        os.kill(process.pid, signal.SIGCONT)
    down = _mcpmesh(name, env, ("down",), None, UP_SECONDS)
    # The agent says that it is down, and then ends.
    with suppress(AssertionError):
        wait_for("all is gone", lambda: not marked(home), 10)
    left = marked(home)
    for process in left:
        os.kill(process.pid, signal.SIGKILL)
    problems = [f"{name}: down ended with {down.returncode}: {down.stderr}"] if down.returncode else []
    return problems + [f"{name}: pid {process.pid} ({process.mark.role}) outlived `down`" for process in left]
