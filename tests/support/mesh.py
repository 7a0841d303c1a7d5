"""A whole mesh as a person runs it: the command line in a process of its own, real Consul, Envoys and servers.

Every mesh has its own state folder and its own folder for temporary files, so
that what it leaves behind can be counted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml
from tests.support.consul import consul_binary
from tests.support.ports import INGRESS_PORTS, MESH_INFRASTRUCTURE, MESH_SERVICES

from mcpmesh.kit.marked_process import VARIABLE, Process, find_marked
from mcpmesh.kit.ports import is_free
from mcpmesh.kit.private_files import private_folder, write_private
from mcpmesh.verify.probes import process_tree

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TIME_SERVER = EXAMPLES / ".venv/bin/mcp-server-time"
GIT_SERVER = EXAMPLES / ".venv/bin/mcp-server-git"
EVERYTHING = EXAMPLES / "node_modules/.bin/mcp-server-everything"
PROGRAMS = ROOT / "tests/integration/mesh/programs"

# Longer than anything takes on a loaded machine.
SECONDS = 90.0

OK, FAILED, INPUT, NO_AGENT, NOT_READY, LOST, REFUSED, CHANGES, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 7, 130


def need(*programs: Path) -> None:
    """Fails where a real server is not installed."""
    for program in programs:
        if not program.exists():
            pytest.fail(f"the example server {program.relative_to(ROOT)} is not installed; run: make setup")


def need_servers() -> None:
    """Fails where the public servers of the examples are not installed."""
    need(EVERYTHING, TIME_SERVER)
    if shutil.which("node") is None:
        pytest.fail("node is not on PATH, and four example servers need it; install Node.js, then run: make setup")


@dataclass
class RealMesh:
    """One mesh: `folder` holds its catalog, `state` the agent's state, `scratch` is its TMPDIR.

    `output` is what its latest `up` printed.
    """

    folder: Path
    name: str = "default"
    state: Path = Path()
    environment: Mapping[str, str] = field(default_factory=dict)
    output: str = ""

    def __post_init__(self) -> None:
        if self.state == Path():
            self.state = self.folder / "state"
            # By default all meshes start at the same port. With one of its own each finds it free after a restart.
            write_private(private_folder(self.home) / "ports.json", json.dumps({"ingress": next(INGRESS_PORTS)}))
        self.scratch = self.folder / "scratch"
        self.scratch.mkdir(exist_ok=True)
        self.catalog = self.folder / "mesh.yaml"

    # --- commands

    @property
    def env(self) -> dict[str, str]:
        """The environment of the commands, without the mcpmesh settings of the user who runs the tests."""
        mine = {key: value for key, value in os.environ.items() if not key.startswith(("MCPMESH_", "CONSUL_"))}
        ports = {
            "MCPMESH_PORTS__INFRASTRUCTURE": str(MESH_INFRASTRUCTURE),
            "MCPMESH_PORTS__SERVICES": str(MESH_SERVICES),
        }
        folders = {"XDG_STATE_HOME": str(self.state), "TMPDIR": str(self.scratch)}
        # Also where a Kong is on PATH.
        ingress = {"MCPMESH_INGRESS__KIND": "api-gateway"}
        return {**mine, **ports, **folders, **ingress, **self.environment}

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "mcpmesh", "--name", self.name, *words]

    def run(self, *words: str, code: int | None = OK, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; its exit code has to be `code`, unless that is None."""
        done = subprocess.run(
            self.argv(*words), env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=seconds
        )
        if code is not None and done.returncode != code:
            # A report shows the end of a long text.
            wrong = "".join(line for line in done.stdout.splitlines(True) if '"ok": false' in line)
            raise AssertionError(
                f"mcpmesh {' '.join(words)}: exit code {done.returncode}, not {code}\n{done.stdout}{done.stderr}{wrong}"
            )
        return done

    def json(self, *words: str, code: int | None = OK) -> Any:
        """The one JSON value that a command prints."""
        return json.loads(self.run(*words, "--json", code=code).stdout)

    def lines(self, *words: str, code: int | None = OK) -> list[Any]:
        """The JSON values that a command prints, one per line."""
        return [json.loads(line) for line in self.run(*words, "--json", code=code).stdout.splitlines()]

    def up(self, *files: Path, code: int = OK) -> subprocess.CompletedProcess[str]:
        """Runs `up --detach` with these catalogs, by default its own."""
        sources = [word for file in files or (self.catalog,) for word in ("-f", str(file))]
        done = self.run("up", *sources, "--detach", "--timeout", "120", code=code, seconds=180)
        self.output = done.stdout + done.stderr
        return done

    def down(self) -> subprocess.CompletedProcess[str]:
        return self.run("down", seconds=180)

    def consul(self, *words: str, code: int | None = 0) -> str:
        """Runs the `consul` command with this mesh's Consul; returns its output."""
        environment = {"CONSUL_HTTP_ADDR": self.consul_url, "PATH": os.environ["PATH"]}
        done = subprocess.run([consul_program(), *words], env=environment, capture_output=True, text=True, timeout=60)
        if code is not None and done.returncode != code:
            raise AssertionError(f"consul {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    # --- its state

    def api(self, method: str, path: str) -> httpx.Response:
        """The answer of the agent's API; raises httpx.ConnectError where no agent runs."""
        address = json.loads((self.home / "agent.json").read_text())["address"]
        token = {"Authorization": f"Bearer {(self.home / 'token').read_text().strip()}"}
        return httpx.request(method, f"{address}{path}", headers=token, trust_env=False, timeout=60)

    def status(self) -> dict[str, Any]:
        """The status; from the API, since starting a command takes a second."""
        found: dict[str, Any] = self.api("GET", "/v1/status").json()
        return found

    def service(self, name: str) -> dict[str, Any]:
        """The status of a service."""
        return next(line for line in self.status()["services"] if line["name"] == name)

    def ready(self) -> bool:
        """Whether everything that is desired runs and is ready; an AssertionError says what is not."""
        status = self.status()
        lines = [f"{line['name']} is {line['state']}: {line['detail']}" for line in status["services"]]
        assert status["in_sync"] and status["ingress_ready"], "; ".join(lines)
        assert all(line["state"] == "ready" for line in status["services"]), "; ".join(lines)
        return True

    def wait_until_ready(self) -> None:
        wait_for(f"mesh {self.name} is ready", self.ready)

    def claims(self) -> list[dict[str, Any]]:
        """The claims of `verify`, once all are true: a process that stalls for some seconds makes one false."""

        def true_claims() -> list[dict[str, Any]]:
            *claims, summary = self.lines("verify", code=None)
            assert [claim for claim in claims if not claim["ok"]] == [], claims
            assert summary == {"summary": {"claims": len(claims), "failed": 0}}
            return claims

        return wait_for("every claim is true", true_claims)

    @property
    def ingress(self) -> str:
        """The ingress's URL: where it listens now, else the stored one.

        They differ where another mesh of this machine took the stored port while this one was down.
        """
        gateways = (process for process in self.processes() if process.mark.role in ("gateway", "kong"))
        held = next((gateway.mark.ports["public"] for gateway in gateways), None)
        return f"http://127.0.0.1:{held or self._ports['ingress']}"

    @property
    def _ports(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.home / "ports.json").read_text())
        return found

    @property
    def consul_url(self) -> str:
        return f"http://127.0.0.1:{self._ports['http']}"

    def ask_consul(self, path: str) -> Any:
        """Consul's answer to GET `path`; None for a 404."""
        answer = httpx.get(f"{self.consul_url}{path}", trust_env=False, timeout=30)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        return answer.json()

    def tell_consul(self, path: str, body: Any) -> None:
        """PUTs `body` to Consul."""
        httpx.put(f"{self.consul_url}{path}", json=body, trust_env=False, timeout=30).raise_for_status()

    def ask_envoy(self, envoy: Process, path: str) -> str:
        """An Envoy's answer at its admin address."""
        url = f"http://127.0.0.1:{envoy.mark.ports['admin']}{path}"
        return httpx.get(url, trust_env=False, timeout=30).raise_for_status().text

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is healed inside the block; it ends when everything is ready again."""
        self.api("POST", "/v1/pause").raise_for_status()
        try:
            yield
        finally:
            self.api("POST", "/v1/resume").raise_for_status()
            self.wait_until_ready()

    @property
    def home(self) -> Path:
        return self.state / "mcpmesh" / self.name

    def log(self, name: str = "agent") -> str:
        return (self.home / "logs" / f"{name}.log").read_text(errors="replace")

    # --- its processes

    def processes(self, role: str | None = None, service: str | None = None) -> list[Process]:
        """Its live processes."""
        return [
            process
            for process in find_marked(self.home)
            if role in (None, process.mark.role) and service in (None, process.mark.service)
        ]

    def pids(self, role: str | None = None, service: str | None = None) -> set[int]:
        return {process.pid for process in self.processes(role, service)}

    def lasting(self, service: str | None = None, *, but: str | None = None) -> set[int]:
        """The processes (of `service`, or of all `but` one) that keep running while callers come and go.

        Beside its first server, which all callers share, a shim has servers for single callers. These end some time
        after their caller has left, or when no caller comes.
        """
        found = [p for p in self.processes(service=service) if but is None or p.mark.service != but]
        servers = {process.pid: _child(process.pid) for process in found if process.mark.role == "server"}
        first: dict[str, int] = {}
        for guard, number in servers.values():
            first[guard] = min(number, first.get(guard, number))
        temporary = {pid for pid, (guard, number) in servers.items() if number != first[guard]}
        return {process.pid for process in found} - temporary

    def undisturbed(self, before: set[int], *, role: str = "", service: str = "") -> bool:
        """Whether all of `before` (see `lasting`) still run, and all others are of this role or service, or servers."""
        now = self.processes()
        new = [process for process in now if process.pid not in before]
        all_run = before <= {process.pid for process in now}
        return all_run and all(p.mark.role in ("server", role) or p.mark.service == service for p in new)

    def nothing_to_do(self) -> bool:
        """Whether the plan has no steps now."""
        return bool(self.json("plan", "--exit-code", code=None) == {"steps": []})

    def one(self, role: str, service: str | None = None) -> Process:
        """Its one process of that role; a child that is about to exec another program is not counted."""
        found = self.first(role, service)
        assert len(found) == 1, f"{len(found)} processes of role {role}: {found}"
        return found[0]

    def first(self, role: str, service: str | None = None) -> list[Process]:
        """Its processes of that role, without descendants of one of them."""
        found = {process.pid: process for process in self.processes(role, service)}
        tree = process_tree.read_tree()
        return [p for pid, p in found.items() if pid in tree.nodes and tree.nearest(tree.parent(pid), found) is None]

    def kill(self, process: Process, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(process.pid, number)

    def held_ports(self) -> set[int]:
        """The ports on which its processes listen."""
        found = {port for process in self.processes() for port in process.mark.ports.values()}
        return self.still_held(found | set(self._ports.values()))

    def still_held(self, ports: set[int]) -> set[int]:
        """Those of `ports` that are in use, and not by another mesh, which may take a port that this one gave up."""
        others = self._ports_of_others()
        held = {port for port in ports if not is_free(port)}
        # Read before and after: the port of a mesh that starts or ends meanwhile is not ours.
        return held - others - self._ports_of_others()

    def _ports_of_others(self) -> set[int]:
        elsewhere = (process for process in find_marked() if process.mark.home != str(self.home))
        return {port for process in elsewhere for port in process.mark.ports.values()}

    @property
    def agent(self) -> Process:
        return self.one("agent")

    def clean_up(self) -> None:
        """Takes it down in whatever state a test left it; processes that remain are killed, and fail the run."""
        for process in self.processes():
            os.kill(process.pid, signal.SIGCONT)
        try:
            self.run("down", code=None, seconds=180)
            # The agent reports that the mesh is down, and then ends.
            wait_for("every process has ended", lambda: not self.processes(), 60)
        finally:
            for process in self.processes():
                os.kill(process.pid, signal.SIGKILL)


def _child(pid: int) -> tuple[str, int]:
    """The guard of a server and its number there; "" and the pid for a server that has ended."""
    with suppress(OSError):
        for item in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if item.startswith(f"{VARIABLE}=".encode()):
                guard, _, number = str(json.loads(item.partition(b"=")[2])["child"]).partition("-")
                return guard, int(number)
    return "", pid


@contextmanager
def real_mesh(folder: Path, catalog: Mapping[str, Any] | str | None = None, **more: Any) -> Iterator[RealMesh]:
    """A mesh with this catalog, not started; after the block no process of it runs."""
    need_servers()
    consul_program()
    mesh = RealMesh(folder, **more)
    if catalog is not None:
        write(mesh.catalog, catalog)
    try:
        yield mesh
    finally:
        mesh.clean_up()


def write(path: Path, catalog: Mapping[str, Any] | str) -> None:
    """Saves a catalog in one step, as an editor does."""
    text = catalog if isinstance(catalog, str) else yaml.safe_dump({"version": 1, **catalog}, sort_keys=False)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    draft.replace(path)


def wait_for(what: str, look: Callable[[], T], seconds: float = SECONDS) -> T:
    """Returns the first true result of `look`; an AssertionError or a failed HTTP call counts as not yet."""
    end = time.monotonic() + seconds
    why = ""
    while True:
        try:
            if found := look():
                return found
        except (AssertionError, httpx.HTTPError) as error:
            why = f": {error!r}"
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s{why}")
        time.sleep(0.1)


@cache
def consul_program() -> str:
    """The consul command, found once, since finding it needs an event loop."""
    return str(consul_binary())


def python_program(name: str) -> list[str]:
    """The command that runs one of the tests' own servers."""
    return [sys.executable, str(PROGRAMS / name)]


def everything(**more: Any) -> dict[str, Any]:
    """The catalog entry of the reference server."""
    return {"command": str(EVERYTHING), "args": ["stdio"], **more}


def the_time(*args: str, **more: Any) -> dict[str, Any]:
    """The catalog entry of the time server."""
    return {"command": str(TIME_SERVER), "args": ["--local-timezone", "UTC", *args], **more}
