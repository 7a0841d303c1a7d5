"""A real Envoy with only our callers' script: which of three instances gets a request."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from tests.support.mesh import ROOT, wait_for
from tests.support.ports import OWN_PORTS

from mcpmesh.envoy.envoy_program import find_envoy

SEEN_BYTES = 256 * 1024
SCRIPT = ROOT / "envoy/caller.lua"


class Instance(BaseHTTPRequestHandler):
    """Answers with its name and the request. Refuses a request that asks for that, once for all instances."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # or head and body would be two packets, and each answer 40 ms late
    refused: bool

    def do_POST(self) -> None:
        chunked = "chunked" in (self.headers.get("transfer-encoding") or "")
        body = self._chunks() if chunked else self.rfile.read(int(self.headers.get("content-length", 0)))
        refuse = self.headers.get("x-refuse") is not None and not self.server.refused.is_set()  # type: ignore[attr-defined]
        if refuse:
            self.server.refused.set()  # type: ignore[attr-defined]
        said = json.dumps({"port": self.server.server_port, "length": len(body)}).encode()  # type: ignore[attr-defined]
        self.send_response(503 if refuse else 200)
        if refuse:
            self.send_header("x-mcpmesh-not-started", "1")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@dataclass
class Caller:
    """A client of the proxy, and the ports of the instances behind it."""

    http: httpx.Client
    ports: list[int]
    refused: threading.Event
    admin: str

    def script_errors(self) -> int:
        """How often our script failed; Envoy then continues without it."""
        stats = httpx.get(f"{self.admin}/stats?filter=lua.errors&format=json", trust_env=False, timeout=90).json()[
            "stats"
        ]
        return sum(stat["value"] for stat in stats)

    def post(self, body: Any, method: str | None = "tools/call", **headers: str) -> dict[str, Any]:
        """The answer of the instance that got the request."""
        more = {"Mcp-Method": method} if method else {}
        content = body if not isinstance(body, dict) else json.dumps(body).encode()
        whole = {"Content-Type": "application/json", **more, **{k.replace("_", "-"): v for k, v in headers.items()}}
        answer = self.http.post("/mcp/x", content=content, headers=whole)
        assert answer.status_code == 200, f"HTTP {answer.status_code}: {answer.text}"
        return answer.json()

    def met(self, body: Any, times: int = 9, **more: Any) -> set[int]:
        """The instances that got these requests."""
        return {self.post(body, **more)["port"] for _ in range(times)}


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Instance) for _ in range(3)]
    refused = threading.Event()
    threads = []
    for server in servers:
        server.daemon_threads = True
        server.refused = refused  # type: ignore[attr-defined]
        threads.append(threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}))
        threads[-1].start()
    ports = [server.server_port for server in servers]
    port, admin = OWN_PORTS.take(), OWN_PORTS.take()
    path = tmp_path_factory.mktemp("envoy") / "bootstrap.json"
    path.write_text(json.dumps({**bootstrap(port, ports), "admin": {"address": address(admin)}}))
    words = [str(find_envoy(None)), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"]
    envoy = subprocess.Popen([*words, "--disable-hot-restart"])
    try:
        wait_for("Envoy listens", lambda: listens(port))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=90, trust_env=False) as http:
            running = Caller(http, ports, refused, f"http://127.0.0.1:{admin}")
            yield running
            assert running.script_errors() == 0
    finally:
        envoy.kill()
        envoy.wait()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def bootstrap(port: int, upstreams: list[int]) -> dict[str, Any]:
    """One listener with our script, one cluster of three, and the retries of our service-router."""
    typed = "type.googleapis.com/envoy.extensions.filters"
    lua = {"@type": f"{typed}.http.lua.v3.Lua", "default_source_code": {"inline_string": SCRIPT.read_text()}}
    router = {"@type": f"{typed}.http.router.v3.Router"}
    retries = {"retry_on": "connect-failure,refused-stream", "num_retries": 5}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "service", "timeout": "0s", "retry_policy": retries}}
    manager = {
        "@type": f"{typed}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.lua", "typed_config": lua},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }
    endpoints = [{"endpoint": {"address": address(upstream)}} for upstream in upstreams]
    cluster = {
        "name": "service",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "service", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "caller", "address": address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def retry(state: str, **params: Any) -> dict[str, Any]:
    """A retry with the client's input."""
    params = {"name": "x", **params, "inputResponses": {}, "requestState": state}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def test_without_an_owner_the_balancer_chooses(caller: Caller) -> None:
    assert caller.met(b"{}") == set(caller.ports)
    assert caller.met(retry("nobody's")) == set(caller.ports)


def test_a_session_goes_to_its_owner(caller: Caller) -> None:
    for port in caller.ports:
        assert caller.met(b"{}", method=None, mcp_session_id=f"abc@127.0.0.1:{port}") == {port}


def test_a_session_id_means_nothing_in_the_revision_without_sessions(caller: Caller) -> None:
    stray = {"mcp_session_id": f"abc@127.0.0.1:{caller.ports[0]}"}
    modern = {"mcp_protocol_version": "2026-07-28"}
    assert caller.met(b"{}", **stray, mcp_protocol_version="2025-11-25") == {caller.ports[0]}
    assert caller.met(b"{}", **stray, **modern) == set(caller.ports)
    assert caller.met(retry(f"abc@127.0.0.1:{caller.ports[1]}"), **stray, **modern) == {caller.ports[1]}


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
def test_a_retry_goes_to_the_owner_of_its_state(caller: Caller, method: str) -> None:
    for port in caller.ports:
        assert caller.met(retry(f"abc=@127.0.0.1:{port}"), method=method) == {port}


def test_it_does_not_matter_how_the_json_is_written(caller: Caller) -> None:
    port = caller.ports[1]
    for body in (
        b'{"params":{"requestState" :\n "a\\"b@127.0.0.1:%d" ,"name":"x"}}' % port,
        b'{"params":{"requestState":"a@127.0.0.1:%d","arguments":{"text":"x@y"}}}' % port,
        b'{"params":{"arguments":{"text":"a \\"requestState\\": \\"b@127.0.0.1:1\\""},"requestState":"c@127.0.0.1:%d"}}'
        % port,
    ):
        assert caller.met(body) == {port}, body


@pytest.mark.parametrize("method", ["tools/list", None])
def test_methods_that_cannot_ask_for_input_are_not_parsed(caller: Caller, method: str | None) -> None:
    assert caller.met(retry(f"abc@127.0.0.1:{caller.ports[0]}"), method=method) == set(caller.ports)


def test_a_text_that_looks_like_a_state_is_ignored(caller: Caller) -> None:
    body = {"params": {"arguments": {"text": f'"requestState":"a@127.0.0.1:{caller.ports[0]}"'}}}
    assert caller.met(body) == set(caller.ports)


@pytest.mark.parametrize("owner", ["10.0.0.5:5432", "a:1", "1:2", "999.1.1.1:1", "[:::]:1"])
def test_an_address_elsewhere_in_the_body_is_no_owner_of_a_state_without_one(caller: Caller, owner: str) -> None:
    body = b'{"params":{"requestState":"plain","arguments":{"dsn":"postgres://u:p@%s"}}}' % owner.encode()
    assert caller.met(body) == set(caller.ports)
    refused_by_a_first(caller, body)


@pytest.mark.parametrize("owner", ["a:1", "1:2", "999.1.1.1:1", "[:::]:1"])
def test_an_owner_that_is_no_address_is_ignored_and_the_call_retried_on_another_instance(
    caller: Caller, owner: str
) -> None:
    refused_by_a_first(caller, json.dumps(retry(f"abc@{owner}")).encode())


def refused_by_a_first(caller: Caller, body: bytes) -> None:
    """A call that one instance refused and another one answered."""
    caller.refused.clear()
    assert caller.post(body, x_refuse="1")["length"] == len(body)
    assert caller.refused.is_set()
    assert caller.script_errors() == 0


def test_a_value_of_the_same_name_does_not_hide_the_state(caller: Caller) -> None:
    port = caller.ports[2]
    body = b'{"params":{"arguments":{"field":"requestState"},"requestState":"c@127.0.0.1:%d"}}' % port
    assert caller.met(body) == {port}


def test_an_owner_that_is_no_instance_leaves_the_choice_to_the_balancer(caller: Caller) -> None:
    assert caller.met(retry("abc@127.0.0.1:1")) == set(caller.ports)
    assert caller.met(retry("abc@192.0.2.1:80")) == set(caller.ports)


def test_a_long_retry_is_parsed_up_to_a_bound(caller: Caller) -> None:
    state = f"abc@127.0.0.1:{caller.ports[2]}"
    around = len(json.dumps(retry(state, arguments={"text": ""})))
    seen = retry(state, arguments={"text": "x" * (SEEN_BYTES - around)})
    assert caller.met(seen) == {caller.ports[2]}
    beyond = retry(state, arguments={"text": "x" * (SEEN_BYTES - around + 1)})
    assert caller.met(beyond) == set(caller.ports)


@pytest.mark.parametrize("mebibytes", [2, 32])
def test_a_large_body_passes_whole(caller: Caller, mebibytes: int) -> None:
    body = b'{"x":"' + b"y" * (mebibytes << 20) + b'"}'
    assert caller.post(body)["length"] == len(body)


def test_a_body_of_unknown_length_passes_whole(caller: Caller) -> None:
    pieces = [b'{"x":"', *[b"y" * 50_000] * 60, b'"}']
    assert caller.post(iter(pieces))["length"] == sum(map(len, pieces))


@pytest.mark.parametrize("body", [b"{}", "in chunks"])
def test_a_call_that_was_not_started_is_retried_on_another_instance(caller: Caller, body: Any) -> None:
    caller.refused.clear()
    sent = iter([b"{", b"}"]) if body == "in chunks" else body
    assert caller.post(sent, x_refuse="1")["length"] == 2
    assert caller.refused.is_set()


@pytest.mark.parametrize("headers", [{}, {"Mcp-Method": "tools/call"}, {"Mcp-Session-Id": "x"}, {"Mcp-Session-Id": ""}])
def test_requests_without_a_body_pass(caller: Caller, headers: dict[str, str]) -> None:
    assert caller.http.get("/mcp/x", headers=headers).json()["length"] == 0
    assert caller.script_errors() == 0


def test_a_call_with_an_owner_is_not_retried_on_another_instance(caller: Caller) -> None:
    caller.refused.clear()
    state = f"abc@127.0.0.1:{caller.ports[0]}"
    for headers, body in (
        ({"Mcp-Method": "tools/call"}, retry(state)),
        ({"Mcp-Session-Id": state}, {}),
    ):
        caller.refused.clear()
        answer = caller.http.post("/mcp/x", json=body, headers={**headers, "X-Refuse": "1"})
        assert (answer.status_code, answer.json()["port"]) == (503, caller.ports[0])
