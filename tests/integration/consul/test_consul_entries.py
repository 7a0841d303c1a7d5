"""Our config entries on real Envoys: a gateway, a caller with a sidecar, a service of two instances."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.consul import Patient, RealConsul, running_consul
from tests.support.ports import CONSUL_PORTS

from mcpmesh.consul.client import Consul
from mcpmesh.consul.config_entries import service_entries
from mcpmesh.consul.registration import registration
from mcpmesh.envoy.bootstrap import ConsulAddress, render_bootstrap
from mcpmesh.envoy.envoy_program import find_envoy
from mcpmesh.ingress.api_gateway import gateway_registration, ingress_entries, route_entry
from mcpmesh.kit.packaged_files import resource_path
from mcpmesh.model.service import Plain, Protocol, ServiceSpec, Stdio, Upstream
from mcpmesh.settings import read_settings

MESH = "test"
INGRESS = "ingress"
FILES = ServiceSpec("files", Stdio("server"), instances=2, route="/mcp/files")
WEB = ServiceSpec("web", Plain(Protocol.HTTP, address="127.0.0.1:1"), route="/web")
DATABASE = ServiceSpec("database", Plain(Protocol.TCP, address="127.0.0.1:1"), balance="round_robin")
CALLER = ServiceSpec(
    "caller", Plain(Protocol.HTTP, address="127.0.0.1:1"), upstreams=(Upstream("files"), Upstream("database"))
)


class Backend(ThreadingHTTPServer):
    """An instance: answers with its name, the path of the request, and the number of requests."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[str] = []
        super().__init__(("127.0.0.1", CONSUL_PORTS.take()), Answering)
        threading.Thread(target=self.serve_forever, daemon=True, name=name).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Backend

    def do_GET(self) -> None:
        if self.path != "/ready":
            self.server.calls.append(self.path)
        if self.path.endswith("/die"):
            self.close_connection = True
            self.connection.close()
            return
        body = json.dumps({"instance": self.server.name, "path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Mesh:
    """What runs: the ports of the gateway and of the caller's upstreams, sidecars by instance, all admin ports."""

    consul: RealConsul
    restart_consul: Callable[[], None]
    ingress: int = 0
    upstream: int = 0
    tcp_upstream: int = 0
    sidecars: dict[str, int] = field(default_factory=dict)
    admin: dict[str, int] = field(default_factory=dict)
    backends: dict[str, Backend] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """A call through the ingress."""
        return httpx.get(f"http://127.0.0.1:{self.ingress}{path}", headers=headers, trust_env=False, timeout=60)

    def call(self, path: str, **headers: str) -> httpx.Response:
        """A call of the caller, through its own sidecar."""
        return httpx.get(f"http://127.0.0.1:{self.upstream}{path}", headers=headers, trust_env=False, timeout=60)

    def stats(self, name: str, pattern: str) -> dict[str, int]:
        url = f"http://127.0.0.1:{self.admin[name]}/stats"
        answer = httpx.get(url, params={"filter": pattern, "format": "json"}, trust_env=False, timeout=60)
        return {stat["name"]: stat["value"] for stat in answer.json()["stats"] if "name" in stat}


def until(condition: Any, what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if condition():
                return
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


@pytest.fixture(scope="module")
def mesh(consul_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("mesh")
    ports = {name: CONSUL_PORTS.take() for name in ("http", "grpc", "serf_lan", "server")}
    settings = {"ports": {**ports, "dns": -1, "https": -1, "grpc_tls": -1, "serf_wan": -1}}

    with contextlib.ExitStack() as running, contextlib.ExitStack() as stack:
        consul = running.enter_context(running_consul(consul_program, folder, **settings))

        def restart() -> None:
            running.close()
            running.enter_context(running_consul(consul_program, folder, **settings))

        mesh = Mesh(consul, restart)
        asyncio.run(write_everything(mesh, stack, folder))
        until(lambda: mesh.get("/mcp/files").status_code == 200, "the ingress reaches files")
        until(lambda: mesh.call("/mcp").status_code == 200, "the caller reaches files")
        until(lambda: mesh.get("/web").status_code == 200, "the ingress reaches web")
        yield mesh


async def write_everything(mesh: Mesh, stack: contextlib.ExitStack, folder: Path) -> None:
    caller, callee = (resource_path(f"envoy/{side}.lua").read_text() for side in ("caller", "callee"))
    consul = Consul(mesh.consul.address, transport=Patient())
    mesh.ingress, mesh.upstream, mesh.tcp_upstream = CONSUL_PORTS.take(), CONSUL_PORTS.take(), CONSUL_PORTS.take()
    for spec in (FILES, WEB, DATABASE, CALLER):
        for entry in service_entries(spec, MESH, caller, callee):
            await consul.write_entry(entry)
    for entry in ingress_entries(MESH, INGRESS, mesh.ingress, caller):
        await consul.write_entry(entry)
    for source, destination in (("ingress", "files"), ("ingress", "web"), ("caller", "files"), ("caller", "database")):
        await consul.allow(source, destination, MESH)
    gateway = gateway_registration(MESH, "test-ingress", INGRESS, "127.0.0.1", mesh.ingress)
    await consul.register([gateway])
    await start_envoy(mesh, stack, folder, "test-ingress", gateway=True)
    for spec, count in ((FILES, 2), (WEB, 1), (DATABASE, 1), (CALLER, 1)):
        for number in range(1, count + 1):
            id_ = f"test-{spec.name}-{number}"
            backend = Backend(id_)
            stack.callback(backend.server_close)
            stack.callback(backend.shutdown)
            mesh.backends[id_] = backend
            mesh.sidecars[id_] = CONSUL_PORTS.take()
            payloads = registration(
                spec,
                mesh=MESH,
                instance_id=id_,
                port=backend.port,
                sidecar_port=mesh.sidecars[id_],
                upstream_ports={"files": mesh.upstream, "database": mesh.tcp_upstream},
                info=None,
            )
            await consul.register(payloads)
            await start_envoy(mesh, stack, folder, f"{id_}-sidecar")
    for spec in (FILES, WEB):
        await consul.write_entry(route_entry(spec, MESH, INGRESS))
    await consul.close()


async def start_envoy(
    mesh: Mesh, stack: contextlib.ExitStack, folder: Path, proxy_id: str, *, gateway: bool = False
) -> None:
    mesh.admin[proxy_id] = CONSUL_PORTS.take()
    address = ConsulAddress(mesh.consul.binary, mesh.consul.address, mesh.consul.grpc_address)
    bootstrap = folder / f"{proxy_id}.json"
    bootstrap.write_text(await render_bootstrap(address, proxy_id, mesh.admin[proxy_id], gateway=gateway))
    log = stack.enter_context((folder / f"{proxy_id}.log").open("wb"))
    options = ["--disable-hot-restart", "--concurrency", "1", "--drain-time-s", "5", "--drain-strategy", "immediate"]
    process = subprocess.Popen(
        [find_envoy(read_settings().envoy.binary), "-c", bootstrap, *options, "--log-level", "warning"],
        stdout=log,
        stderr=log,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)


def test_no_envoy_rejects_anything(mesh: Mesh) -> None:
    for name in mesh.admin:
        rejected = mesh.stats(name, r"update_rejected$")
        assert rejected, name
        assert {stat: value for stat, value in rejected.items() if value} == {}, name


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("/mcp/files", "/mcp"),
        ("/mcp/files/", "/mcp/"),
        ("/mcp/files/x?y=1", "/mcp/x?y=1"),
        ("/web", "/"),
        ("/web?x=1", "/?x=1"),
        ("/web/", "/"),
        ("/web/a/b?c=d", "/a/b?c=d"),
    ],
)
def test_a_route_leads_to_the_services_own_path(mesh: Mesh, asked: str, seen: str) -> None:
    assert mesh.get(asked).json()["path"] == seen


@pytest.mark.parametrize("path", ["/", "/mcp", "/mcp/other", "/mcp/filesystem", "/webs", "/webs?x=/web"])
def test_an_undeclared_path_is_404(mesh: Mesh, path: str) -> None:
    assert mesh.get(path).status_code == 404


def test_calls_are_spread_over_the_instances(mesh: Mesh) -> None:
    for call in (lambda: mesh.get("/mcp/files"), lambda: mesh.call("/mcp")):
        until(lambda call=call: call().json()["instance"] == "test-files-1", "the first instance is called")  # type: ignore[misc]
        until(lambda call=call: call().json()["instance"] == "test-files-2", "the second instance is called")  # type: ignore[misc]


@pytest.mark.parametrize("instance", ["test-files-1", "test-files-2"])
def test_a_session_stays_on_its_instance(mesh: Mesh, instance: str) -> None:
    session = {"Mcp-Session-Id": f"0123abcd@127.0.0.1:{mesh.sidecars[instance]}"}

    def stays() -> bool:
        answers = [call("/mcp", **session) for call in [mesh.call] * 12]
        answers += [call("/mcp/files", **session) for call in [mesh.get] * 12]
        return {(answer.status_code, answer.json().get("instance")) for answer in answers} == {(200, instance)}

    # On a stalled machine a check of the instance may have failed; it gets no calls until the next one.
    until(stays, "24 calls of a session, all to its instance")


def test_a_session_of_an_ended_instance_goes_to_any_other(mesh: Mesh) -> None:
    gone = {"Mcp-Session-Id": f"0123abcd@127.0.0.1:{CONSUL_PORTS.take()}"}
    assert mesh.get("/mcp/files", **gone).status_code == 200


def test_calls_without_an_intention_are_refused(mesh: Mesh) -> None:
    consul = mesh.consul
    consul.cli("intention", "create", "-replace", "-deny", "ingress", "files")
    until(lambda: mesh.get("/mcp/files").status_code == 403, "the ingress is refused")
    assert mesh.call("/mcp").status_code == 200
    consul.cli("intention", "delete", "ingress", "files")
    until(lambda: mesh.get("/mcp/files").status_code == 403, "without any intention it is refused as well")
    asyncio.run(again(mesh, "ingress", "files"))
    # Each instance's sidecar learns of it separately.
    until(lambda: {mesh.get("/mcp/files").status_code for _ in range(12)} == {200}, "the ingress is allowed again")


async def again(mesh: Mesh, source: str, destination: str) -> None:
    consul = Consul(mesh.consul.address, transport=Patient())
    await consul.allow(source, destination, MESH)
    await consul.close()


def retries(mesh: Mesh, name: str) -> set[tuple[str, int]]:
    """The retry conditions and numbers of every route to `files` in Envoy."""
    dump = httpx.get(f"http://127.0.0.1:{mesh.admin[name]}/config_dump", trust_env=False, timeout=60).json()
    found = set()
    for config in dump["configs"]:
        for route in config.get("dynamic_route_configs", []):
            for host in route["route_config"]["virtual_hosts"]:
                reachable = {json.dumps(rule["match"]): rule for rule in reversed(host["routes"])}
                for rule in reachable.values():
                    action = rule.get("route", {})
                    if action.get("cluster", "").startswith("files."):
                        policy = action.get("retry_policy", {})
                        found.add((policy.get("retry_on", ""), policy.get("num_retries", 0)))
    return found


def test_every_caller_retries_calls_that_did_not_start(mesh: Mesh) -> None:
    assert retries(mesh, "test-ingress") == {("connect-failure,refused-stream,reset-before-request", 5)}
    assert retries(mesh, "test-caller-1-sidecar") == {("connect-failure,refused-stream", 5)}


def test_a_call_that_may_have_started_is_never_made_twice(mesh: Mesh) -> None:
    before = sum(len(backend.calls) for backend in mesh.backends.values())
    assert mesh.get("/mcp/files/die").status_code >= 500
    assert mesh.call("/mcp/die").status_code >= 500
    assert sum(len(backend.calls) for backend in mesh.backends.values()) == before + 2


def test_plain_connections_reach_a_tcp_service(mesh: Mesh) -> None:
    answer = httpx.get(f"http://127.0.0.1:{mesh.tcp_upstream}/any", trust_env=False, timeout=60)
    assert answer.json() == {"instance": "test-database-1", "path": "/any"}


def test_a_consul_that_is_killed_and_comes_back_costs_no_call(mesh: Mesh) -> None:
    until(lambda: {mesh.get("/mcp/files").status_code for _ in range(12)} == {200}, "all is well before")
    outcomes: Counter[int] = Counter()
    enough = threading.Event()

    def keep_calling() -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            while not enough.is_set():
                outcomes[client.get(f"http://127.0.0.1:{mesh.ingress}/mcp/files").status_code] += 1
                # More calls would only take the processor from the servers.
                enough.wait(0.02)

    calling = threading.Thread(target=keep_calling)
    calling.start()
    mesh.restart_consul()
    try:
        # The proxies get changes again: their streams and the checks are restored.
        mesh.consul.cli("intention", "create", "-replace", "-deny", "ingress", "web")
        until(lambda: mesh.get("/web").status_code == 403, "a change after the restart binds")
        until(lambda: passing(mesh, "files") == 2, "both instances were checked again")
        before = outcomes[200]
        until(lambda: outcomes[200] >= before + 50, "calls go on")
    finally:
        enough.set()
        calling.join()
    assert outcomes.keys() == {200}


def passing(mesh: Mesh, service: str) -> int:
    return len(mesh.consul.get(f"/v1/health/connect/{service}?passing=true"))
