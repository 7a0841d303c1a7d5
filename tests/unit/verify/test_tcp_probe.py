"""One connection to each kind of server, on both event loops: their TLS ends connections differently."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.ports import OWN_PORTS

from mcpmesh.verify.probes.foreign_certificate import bare_context, foreign_context
from mcpmesh.verify.probes.tcp_probe import Outcome, Reply, get_request, probe
from mcpmesh.verify.time_limits import ANSWER_SECONDS

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Run = Callable[[Coroutine[Any, Any, Reply]], Reply]

# How long a probe waits for what does not come.
SHORT = 0.05
# How long it waits for what comes.
LONG = 0.5


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


async def connect_to(behaviour: Behaviour, server: ssl.SSLContext | None = None, **options: Any) -> Reply:
    """Probes a server of this behaviour."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behaviour(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    try:
        return await probe(
            "127.0.0.1", port, **{"tls": None, "payload": get_request("/"), "early_seconds": SHORT, **options}
        )
    finally:
        listening.close()
        await listening.wait_closed()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def closing_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.close()
    await writer.wait_closed()


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    # In two pieces, as a slow network would bring them.
    writer.write(b"HTTP/1.1 403 Forbidden\r\nX-Envoy-Up")
    await writer.drain()
    await asyncio.sleep(0)
    writer.write(b"stream-Service-Time: 3\r\nContent-Length: 2\r\n\r\nno")
    await writer.drain()
    await reader.read()


async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"welcome\n")
    await writer.drain()
    await reader.read()


async def greeting_and_closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"welcome\n")
    await writer.drain()
    await closing_at_once(reader, writer)


def test_a_port_without_a_listener_is_unreachable(run: Run) -> None:
    reply = run(probe("127.0.0.1", OWN_PORTS.take(), tls=None, payload=b"x"))
    assert reply.outcome is Outcome.UNREACHABLE
    assert not reply.opened


def test_a_connection_that_is_ended_is_closed(run: Run) -> None:
    assert run(connect_to(closing_at_once)).outcome is Outcome.CLOSED


def test_a_server_that_sends_nothing_is_silent_after_the_time_limit(run: Run) -> None:
    assert run(connect_to(silent, step_seconds=SHORT)) == Reply(Outcome.SILENT, "open and silent for 0 s")


def test_the_reply_has_the_first_line_of_an_answer_and_its_origin(run: Run) -> None:
    reply = run(connect_to(answering))
    assert reply == Reply(Outcome.ANSWERED, "HTTP/1.1 403 Forbidden", forwarded=True)
    assert reply.status == 403


def test_an_answer_that_is_not_http_has_no_status(run: Run) -> None:
    reply = run(connect_to(greeting))
    assert (reply.outcome, reply.text.strip(), reply.status) == (Outcome.ANSWERED, "welcome", None)


def test_a_connection_that_greets_and_closes_while_held_is_closed(run: Run) -> None:
    reply = run(connect_to(greeting_and_closing, hold_seconds=ANSWER_SECONDS))
    assert reply.outcome is Outcome.CLOSED
    assert "'welcome\\n' was received" in reply.text


def test_a_connection_that_stays_open_while_held_has_answered_or_is_silent(run: Run) -> None:
    assert run(connect_to(greeting, hold_seconds=LONG)).outcome is Outcome.ANSWERED
    assert run(connect_to(silent, hold_seconds=SHORT)).outcome is Outcome.SILENT


# --- TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_demands_a_certificate_refuses_a_caller_without_one(
    run: Run, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    reply = run(
        connect_to(answering, server_context(tmp_path, version), tls=bare_context(), early_seconds=ANSWER_SECONDS)
    )
    assert reply.outcome is Outcome.CLOSED, reply


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_refuses_a_certificate_of_another_authority(run: Run, tmp_path: Path, version: ssl.TLSVersion) -> None:
    context = foreign_context("spiffe://somewhere/svc/files")
    reply = run(connect_to(answering, server_context(tmp_path, version), tls=context, early_seconds=ANSWER_SECONDS))
    assert reply.outcome is Outcome.CLOSED, reply


def test_a_server_that_demands_no_certificate_answers(run: Run, tmp_path: Path) -> None:
    server = server_context(tmp_path, ssl.TLSVersion.TLSv1_3, demanding=False)
    assert run(connect_to(answering, server, tls=bare_context())).status == 403


def test_plain_text_at_a_tls_server_is_refused(run: Run, tmp_path: Path) -> None:
    reply = run(connect_to(answering, server_context(tmp_path, ssl.TLSVersion.TLSv1_3)))
    assert reply.outcome is Outcome.CLOSED, reply


def test_a_server_that_never_shakes_hands_is_silent(run: Run) -> None:
    reply = run(connect_to(silent, tls=bare_context(), step_seconds=SHORT))
    assert (reply.outcome, reply.opened) == (Outcome.SILENT, False)


def test_a_server_that_speaks_no_tls_ends_the_handshake(run: Run) -> None:
    reply = run(connect_to(closing_at_once, tls=bare_context()))
    assert (reply.outcome, reply.opened) == (Outcome.CLOSED, False)


def server_context(folder: Path, version: ssl.TLSVersion, demanding: bool = True) -> ssl.SSLContext:
    """A server that trusts its own authority alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the mesh's CA")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    pem = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(certificate + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(pem)
    if demanding:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=certificate.decode())
    return context
