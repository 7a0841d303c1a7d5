"""HTTP by RFC 9110 and 9112: HEAD, targets with a host, encoded bodies."""

from __future__ import annotations

import gzip
import json
import socket

import pytest


def exchange(shim, *lines, body=b""):
    """All bytes that come back on a connection whose last request closes it."""
    with socket.create_connection(("127.0.0.1", shim.port), timeout=60) as raw:
        raw.sendall("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body)
        answer = b""
        while more := raw.recv(65536):
            answer += more
    return answer


@pytest.mark.parametrize("path", ["/health", "/ready", "/info", "/metrics"])
def test_a_head_is_answered_as_a_get_without_the_body(plain, path):
    got = plain.http.get(path)
    answer = plain.http.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == got.headers["content-type"]
    assert int(answer.headers["content-length"]) > 0


def test_after_a_head_the_connection_goes_on_with_the_next_answer(plain):
    # One client has one connection: bytes after the answer to a HEAD would be read as the next answer.
    for path in ("/health", "/mcp", "/nowhere", "/health"):
        plain.http.head(path)
        assert plain.http.get("/health").json() == {"status": "alive"}


@pytest.mark.parametrize(("path", "status"), [("/mcp", 405), ("/nowhere", 404)])
def test_a_head_that_is_refused_has_no_body_either(plain, path, status):
    answer = exchange(plain, f"HEAD {path} HTTP/1.1", "Host: localhost", "Connection: close")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.endswith(b"\r\n\r\n")
    answer = exchange(plain, f"HEAD {path} HTTP/1.1", "Host: evil.example")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("options", [["close"], ["Close"], ["x, close"], ["close", "x"]])
@pytest.mark.parametrize("path", ["/health", "/mcp"])
def test_a_connection_that_a_client_wants_closed_is_closed_after_the_answer(plain, path, options):
    lines = [f"Connection: {option}" for option in options]
    answer = exchange(plain, f"GET {path} HTTP/1.1", "Host: localhost", *lines)
    assert b"\r\nconnection: close\r\n" in answer


@pytest.mark.parametrize(
    "target", ["http://localhost/health", "HTTP://LOCALHOST:9/health?x=/y", "https://[::1]/health"]
)
def test_a_target_may_name_its_host(plain, target):
    answer = exchange(plain, f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"status":"alive"}')


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://evil.example/health", "localhost", 403),
        ("http://evil.example@localhost/health", "localhost", 403),
        ("http://localhost@evil.example/health", "localhost", 403),
        ("http://localhost/health", "evil.example", 200),
        ("http://localhost", "localhost", 404),
        ("ftp://localhost/health", "localhost", 404),
    ],
)
def test_the_host_in_the_target_takes_precedence(plain, target, host, status):
    answer = exchange(plain, f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close")
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_a_host_in_the_target_does_not_replace_the_header(plain):
    answer = exchange(plain, "GET http://localhost/health HTTP/1.1", "Connection: close")
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("coding", ["gzip", "identity, gzip", "GZIP", "x-unheard-of"])
def test_an_encoded_body_is_refused_with_the_accepted_encoding(plain, modern, coding):
    client = modern(plain)
    body = client.body("tools/call", {"name": "echo", "arguments": {}})
    headers = {**client.headers(body), "Content-Encoding": coding}
    answer = plain.http.post("/mcp", content=gzip.compress(json.dumps(body).encode()), headers=headers)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
    assert "Content-Encoding" in answer.json()["error"]["message"]


def test_an_encoding_in_a_second_header_line_is_seen(plain, modern):
    client = modern(plain)
    body = client.body("tools/call", {"name": "echo", "arguments": {}})
    pairs = [*client.headers(body).items(), ("Content-Encoding", "gzip"), ("Content-Encoding", "identity")]
    assert plain.http.post("/mcp", json=body, headers=pairs).status_code == 415


def test_a_body_with_the_encoding_identity_is_taken(plain, modern):
    client = modern(plain)
    body = client.body("tools/call", {"name": "echo", "arguments": {"text": "plain"}})
    assert client.post(body, Content_Encoding="Identity").status_code == 200
