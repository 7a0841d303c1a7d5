"""Kong as the ingress of compose.yaml; the first lines of the run name the image that runs as kong:3.9."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.e2e.calls import calls_without_a_fault, status_of_call
from tests.e2e.composed import Composed, docker, until

# The agent looks every second; a Kong that answers is handed its document at that look. The rest is for a machine that
# stands still meanwhile, and still far from what somebody else's document would last if nobody looked.
DOCUMENT_SECONDS = 30.0
KEYS = """\
_format_version: "3.0"
consumers:
- username: ada
  keyauth_credentials: [{key: sesame}]
plugins:
- {name: key-auth, service: time}
"""
REFUSED = '_format_version: "3.0"\nplugins: [{name: key-auth, service: time, config: {key_in_heder: true}}]\n'
THEIRS = {"_format_version": "3.0", "services": [{"name": "theirs", "host": "127.0.0.1", "port": 1}]}


def hash_of(mesh: Composed) -> str:
    """The hash of Kong's document; empty where Kong does not answer."""
    try:
        found = httpx.get(f"{mesh.kong_admin}/status", trust_env=False, timeout=60)
    except httpx.TransportError:
        return ""
    return str(found.json()["configuration_hash"])


@pytest.fixture
def own_document(mesh: Composed) -> Iterator[Path]:
    """The path of a document of the user's own, removed after the test."""
    path = mesh.folder / "kong.d" / "mine.yml"
    path.parent.mkdir(exist_ok=True)
    yield path
    path.unlink(missing_ok=True)


def test_kong_runs_as_its_images_user_and_writes_only_below_tmp(mesh: Composed) -> None:
    assert docker("exec", mesh.kong, "id", "-un") == "kong"
    assert "Kong is healthy at /tmp/kong" in docker("exec", mesh.kong, "kong", "health")
    assert {line.split()[1].split("/")[1] for line in docker("diff", mesh.kong).splitlines()} <= {"mcpmesh", "tmp"}


def test_a_restarted_kong_has_its_document_at_once(mesh: Composed) -> None:
    ours = hash_of(mesh)
    seen: set[int] = set()

    def answer() -> int:
        seen.add(found := status_of_call(mesh))
        return found

    mesh.compose("restart", "kong")
    until(answer, "a Kong that listens")
    until(lambda: hash_of(mesh) == ours, "its document", DOCUMENT_SECONDS)
    until(lambda: answer() == 200, "an answered call")
    # An MCP client would take a 404 for the end of its session.
    assert seen <= {0, 200, 502, 503}
    until(mesh.settled, "a mesh that is whole")


def test_a_document_that_others_post_is_replaced_by_ours(mesh: Composed) -> None:
    ours = hash_of(mesh)
    answer = httpx.post(f"{mesh.kong_admin}/config", json=THEIRS, trust_env=False, timeout=60)
    assert answer.status_code == 201, answer.text
    until(lambda: hash_of(mesh) == ours, "our document", DOCUMENT_SECONDS)
    # Kong reports the new hash some moments before its workers use it.
    until(lambda: status_of_call(mesh) == 200, "a call by our document")


def test_a_saved_document_in_kong_d_is_merged(mesh: Composed, own_document: Path) -> None:
    with calls_without_a_fault(mesh):
        own_document.write_text(KEYS)
        until(lambda: status_of_call(mesh, "time") == 401, "a key that is asked for")
        assert status_of_call(mesh, "time", apikey="sesame") == 200
        own_document.unlink()
        until(lambda: status_of_call(mesh, "time") == 200, "no key that is asked for")


def test_a_refused_document_is_reported_with_kongs_reason_and_changes_nothing(
    mesh: Composed, own_document: Path
) -> None:
    ours = hash_of(mesh)
    with calls_without_a_fault(mesh):
        own_document.write_text(REFUSED)
        said = 'plugin "key-auth" config.key_in_heder: unknown field'
        until(lambda: said in mesh.status().get("ingress_error", ""), "the refusal")
        assert hash_of(mesh) == ours
        own_document.unlink()
        until(lambda: mesh.status().get("ingress_error") == "", "no refusal")
    assert hash_of(mesh) == ours
