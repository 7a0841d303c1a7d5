"""A service's certificate as Consul issues it, and the TLS contexts made of it.

Asking for the certificate of a name registers nothing, so an identity that no
intention knows can be tried as well.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Identity:
    """Certificate, key and roots (PEM) of one service; `spiffe` is the name that its peers see."""

    service: str
    spiffe: str
    trust_domain: str
    certificate: str
    key: str = field(repr=False)
    roots: str = field(repr=False)

    def ssl_context(self) -> ssl.SSLContext:
        """For a client that shows this certificate and trusts Consul's roots.

        The roots sign every service of the mesh, so the caller still has to
        compare `spiffe_of` the peer with whom it meant.
        """
        context = anonymous_context(self.roots)
        # The ssl module reads certificates from files alone; this one is 0600 and gone at once.
        with tempfile.NamedTemporaryFile("w", prefix="mcpmesh-leaf-", suffix=".pem") as file:
            file.write(self.certificate)
            file.write(self.key)
            file.flush()
            context.load_cert_chain(file.name)
        return context


def identity(service: str, leaf: Mapping[str, Any], roots: Mapping[str, Any]) -> Identity:
    """From Consul's answers to /v1/agent/connect/ca/leaf/… and …/roots; KeyError where they are not that."""
    return Identity(
        service=service,
        spiffe=leaf["ServiceURI"],
        trust_domain=roots["TrustDomain"],
        certificate=leaf["CertPEM"],
        key=leaf["PrivateKeyPEM"],
        roots="".join(_lines(root["RootCert"]) + _intermediates(root) for root in roots["Roots"]),
    )


def anonymous_context(roots: str) -> ssl.SSLContext:
    """For a client that trusts `roots` (PEM) and shows no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # a SPIFFE identity is a URI, no host name
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=roots)
    return context


def spiffe_of(peer: ssl.SSLObject | ssl.SSLSocket) -> str:
    """The SPIFFE URI in the certificate that the peer showed and proved; "" where it has none."""
    certificate = peer.getpeercert() or {}
    names = (name[1] for name in certificate.get("subjectAltName", ()) if name[0] == "URI")
    return next((str(name) for name in names if str(name).startswith("spiffe://")), "")


def _intermediates(root: Mapping[str, Any]) -> str:
    return "".join(_lines(text) for text in root.get("IntermediateCerts") or ())


def _lines(pem: str) -> str:
    return pem.rstrip("\n") + "\n"
