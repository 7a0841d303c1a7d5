"""A certificate that names an identity of the mesh and comes from another CA."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LIFE = timedelta(hours=1)
# The certificate must not be refused because a clock is a little behind.
_SLACK = timedelta(minutes=5)


def bare_context() -> ssl.SSLContext:
    """For a client that shows no certificate and accepts any: the server's verdict is tried, not ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def foreign_context(spiffe: str) -> ssl.SSLContext:
    """As `bare_context`, with a certificate for the SPIFFE id `spiffe` from a CA that is made here."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "not the mesh's CA")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mcpmesh verify")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe)]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    context = bare_context()
    # The ssl module reads certificates from files alone; this one is 0600 and removed at once.
    with tempfile.NamedTemporaryFile(prefix="mcpmesh-foreign-", suffix=".pem") as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        file.flush()
        context.load_cert_chain(file.name)
    return context
