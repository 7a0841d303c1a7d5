"""A service's leaf certificate from Consul, and TLS contexts made from it.

Reading the certificate of a name registers nothing, so an identity without any
intention can be tried too.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Identity:
    """Certificate, key and roots (PEM) of one service; `spiffe` is its name in the certificate."""

    service: str
    spiffe: str
    trust_domain: str
    certificate: str
    key: str = field(repr=False)
    roots: str = field(repr=False)

    def ssl_context(self) -> ssl.SSLContext:
        """A context for a client that presents this certificate and trusts Consul's roots.

        The roots sign every service of the mesh, so the caller still has to
        compare `spiffe_of` the peer with the service that it means.
        """
        context = anonymous_context(self.roots)
        # The ssl module reads a certificate from a file only; this one is 0600 and deleted at once.
        with tempfile.NamedTemporaryFile("w", prefix="mcpmesh-leaf-", suffix=".pem") as file:
            file.write(self.certificate)
            file.write(self.key)
            file.flush()
            context.load_cert_chain(file.name)
        return context


def identity_from(service: str, leaf: Mapping[str, Any], roots: Mapping[str, Any]) -> Identity:
    """The identity in Consul's answers to /v1/agent/connect/ca/leaf/… and …/roots; KeyError for other JSON."""
    return Identity(
        service=service,
        spiffe=leaf["ServiceURI"],
        trust_domain=roots["TrustDomain"],
        certificate=leaf["CertPEM"],
        key=leaf["PrivateKeyPEM"],
        roots="".join(_lines(root["RootCert"]) + _intermediates(root) for root in roots["Roots"]),
    )


def anonymous_context(roots: str) -> ssl.SSLContext:
    """A context for a client that trusts `roots` (PEM) and presents no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # a SPIFFE id is a URI, not a host name
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=roots)
    return context


def spiffe_of(peer: ssl.SSLObject | ssl.SSLSocket) -> str:
    """The SPIFFE URI in the peer's verified certificate; "" where it has none."""
    certificate = peer.getpeercert() or {}
    names = (name[1] for name in certificate.get("subjectAltName", ()) if name[0] == "URI")
    return next((str(name) for name in names if str(name).startswith("spiffe://")), "")


def _intermediates(root: Mapping[str, Any]) -> str:
    return "".join(_lines(text) for text in root.get("IntermediateCerts") or ())


def _lines(pem: str) -> str:
    return pem.rstrip("\n") + "\n"
