"""Which answers through a sidecar prove an instance; the sidecar is a TLS server with an identity."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mcpmesh.errors import Unreachable
from mcpmesh.model.observed_state import Proof
from mcpmesh.model.service import Health, Plain, Protocol, ServiceSpec, Stdio
from mcpmesh.reconcile.proof_attempt import ProofTarget, prove_through_sidecar

MCP = ServiceSpec("files", Stdio("server"))
WEB = ServiceSpec("files", Plain(Protocol.HTTP, command="web"))
TCP = ServiceSpec("files", Plain(Protocol.TCP, command="db"))
Handler = Callable[[bytes], bytes]
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    """The TLS contexts of the sidecar of "files" and of the agent."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "files")])
    names = [x509.UniformResourceIdentifier("spiffe://mesh/files"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = tmp_path_factory.mktemp("sidecar") / Path("files.pem")
    pem.write_bytes(certificate + private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cadata=certificate.decode())


@asynccontextmanager
async def sidecar(contexts: Contexts, handler: Handler | None) -> AsyncIterator[int]:
    """The port of a sidecar that answers each request as `handler` says; without one it ends each connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if handler is not None:
                writer.write(handler(await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=contexts[0])
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def http(status: int, body: object = "", path: str | None = None) -> Handler:
    """An HTTP answer, to requests for that path alone."""
    text = body if isinstance(body, str) else json.dumps(body)

    def handler(request: bytes) -> bytes:
        asked = request.split(b" ")[1].decode()
        code = status if path in (None, asked) else 404
        head = f"HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        return f"{head}Connection: close\r\n\r\n{text}".encode()

    return handler


async def proof(
    contexts: Contexts, spec: ServiceSpec, handler: Handler | None, identity: str = "spiffe://mesh/"
) -> Proof:
    async def credentials() -> tuple[ssl.SSLContext, Callable[[str], str]]:
        return contexts[1], lambda service: f"{identity}{service}"

    async with sidecar(contexts, handler) as port:
        return await prove_through_sidecar(credentials, ProofTarget(spec, "127.0.0.1", port))


@pytest.mark.parametrize(
    "handler",
    [
        http(200, {"jsonrpc": "2.0", "id": 1, "result": {"tools": []}}, path="/mcp"),
        http(200, {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no tools"}}),
        http(400, {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no tools"}}),
    ],
)
async def test_an_mcp_server_that_answers_json_rpc_is_alive(contexts: Contexts, handler: Handler) -> None:
    assert await proof(contexts, MCP, handler) == Proof(True)


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (http(403, "RBAC: access denied"), "answered HTTP 403: RBAC"),
        (http(503, "no healthy upstream"), "answered HTTP 503"),
        (http(200, "hello"), "it is no JSON"),
    ],
)
async def test_an_mcp_server_that_does_not_answer_json_rpc_is_not_proven(
    contexts: Contexts, handler: Handler, reason: str
) -> None:
    found = await proof(contexts, MCP, handler)
    assert not found.ok and reason in found.error


@pytest.mark.parametrize(
    ("status", "ok"), [(200, True), (404, True), (499, True), (403, False), (500, False), (503, False)]
)
async def test_an_http_service_is_proven_by_its_status(contexts: Contexts, status: int, ok: bool) -> None:
    reason = "" if ok else f"GET / through its sidecar answers HTTP {status}"
    assert await proof(contexts, WEB, http(status)) == Proof(ok, reason)


async def test_an_http_service_is_asked_at_the_path_of_its_check(contexts: Contexts) -> None:
    spec = ServiceSpec("files", WEB.start, health=Health(path="/ready"))
    reason = "GET /ready through its sidecar answers HTTP 500"
    assert await proof(contexts, spec, http(500, path="/ready")) == Proof(False, reason)


async def test_a_tcp_service_is_proven_by_a_connection_that_stays_open(contexts: Contexts) -> None:
    assert await proof(contexts, TCP, http(200)) == Proof(True)
    closed = await proof(contexts, TCP, None)
    assert not closed.ok and "no intention allows it" in closed.error


async def test_an_answer_of_another_identity_proves_nothing(contexts: Contexts) -> None:
    found = await proof(contexts, MCP, http(200), "spiffe://other/")
    assert not found.ok and "not spiffe://other/files" in found.error


async def test_without_credentials_nothing_is_proven() -> None:
    def credentials() -> Awaitable[tuple[ssl.SSLContext, Callable[[str], str]]]:
        raise Unreachable("cannot reach Consul")

    target = ProofTarget(MCP, "127.0.0.1", 1)
    assert await prove_through_sidecar(credentials, target) == Proof(False, "cannot reach Consul")
