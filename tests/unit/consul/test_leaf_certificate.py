"""A service's certificate, from Consul's two answers."""

from __future__ import annotations

import ssl
from typing import Any, cast

import pytest

from mcpmesh.consul.leaf_certificate import Identity, anonymous_context, identity_from, spiffe_of

LEAF = {"ServiceURI": "spiffe://t.consul/ns/default/dc/dc1/svc/files", "CertPEM": "certificate", "PrivateKeyPEM": "key"}
ROOTS = {
    "TrustDomain": "t.consul",
    "Roots": [{"RootCert": "first\n\n", "IntermediateCerts": ["between"]}, {"RootCert": "second"}],
}


def test_an_identity_has_all_roots_and_intermediates_each_on_lines_of_its_own() -> None:
    assert identity_from("files", LEAF, ROOTS) == Identity(
        service="files",
        spiffe="spiffe://t.consul/ns/default/dc/dc1/svc/files",
        trust_domain="t.consul",
        certificate="certificate",
        key="key",
        roots="first\nbetween\nsecond\n",
    )


def test_neither_key_nor_roots_are_in_the_repr_of_an_identity() -> None:
    text = repr(identity_from("files", {**LEAF, "PrivateKeyPEM": "sesame"}, ROOTS))
    assert "sesame" not in text and "second" not in text and "certificate" in text


@pytest.mark.parametrize(("leaf", "roots"), [({}, ROOTS), (LEAF, {}), (LEAF, {"Roots": [{}], "TrustDomain": "t"})])
def test_other_json_is_an_error(leaf: dict[str, str], roots: dict[str, Any]) -> None:
    with pytest.raises(KeyError):
        identity_from("files", leaf, roots)


def test_roots_that_are_no_certificates_are_an_error() -> None:
    with pytest.raises(ssl.SSLError):
        anonymous_context("no certificate")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((("DNS", "files"), ("URI", "https://x"), ("URI", "spiffe://a"), ("URI", "spiffe://b")), "spiffe://a"),
        ((("DNS", "spiffe://a"),), ""),
        ((), ""),
    ],
)
def test_the_spiffe_id_of_a_peer_is_the_first_spiffe_uri_in_its_certificate(
    names: tuple[tuple[str, str], ...], expected: str
) -> None:
    class Peer:
        def getpeercert(self) -> dict[str, Any] | None:
            return {"subjectAltName": names} if names else None

    assert spiffe_of(cast(ssl.SSLSocket, Peer())) == expected
