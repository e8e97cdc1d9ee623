"""A certificate authority that can vouch for the loopback blob host only.

The Azure client insists on https for blobs. The private key never leaves the workspace's
folder, and a name constraint (RFC 5280, 4.2.1.10) keeps the authority to ``loopback.test``,
a domain that cannot exist (RFC 2606).
"""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from papershell.orchestration.loopback.names import BLOB_HOST, DOMAIN

_LIFETIME = datetime.timedelta(days=3650)


def _builder(name: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    others = (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        **dict.fromkeys(others, False),
    )  # fmt: skip


def make_certificates(folder: Path) -> None:
    """Write ``authority.pem`` (public) and ``service.pem`` (private key and chain) into ``folder``."""
    issuer = "papershell loopback"
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        _builder(issuer, issuer, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints([x509.DNSName(DOMAIN)], None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    service = (
        _builder(BLOB_HOST, issuer, key)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(BLOB_HOST)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    public = authority.public_bytes(serialization.Encoding.PEM)
    (folder / "authority.pem").write_bytes(public)
    # The client trusts the usual authorities and this one.
    (folder / "bundle.pem").write_bytes(Path(certifi.where()).read_bytes() + public)
    (folder / "service.pem").write_bytes(private + service.public_bytes(serialization.Encoding.PEM))
    (folder / "service.pem").chmod(0o600)


def server_context(folder: Path) -> ssl.SSLContext:
    """Return the TLS side of the service, making the certificates on first use."""
    if not (folder / "service.pem").exists():
        make_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "service.pem")
    return context
