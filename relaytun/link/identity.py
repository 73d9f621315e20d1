"""
A client's identity: a long-lived P-256 key and a self-signed certificate.

The certificate's fingerprint is the client's name to those who trust nobody's word for it.
This module makes, reads and checks identities; where the file lies is the caller's business.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LIFETIME = datetime.timedelta(days=365 * 100)


def fingerprint(certificate: bytes) -> str:
    """
    @param certificate: DER.
    @return: C{sha256:} and 64 hexadecimal digits.
    """
    return "sha256:" + hashlib.sha256(certificate).hexdigest()


def der(certificate: x509.Certificate) -> bytes:
    """The certificate's bytes, as its fingerprint is made of them."""
    return certificate.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True)
class Identity:
    """
    @ivar key: the private key.
    @ivar certificate: the self-signed certificate.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str, hosts: tuple[x509.GeneralName, ...] = ()) -> Identity:
        """
        A new one.

        @param name: the certificate's common name.
        @param hosts: its subject alternative names, for a server.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        # A clock that is a day off must not make a fresh certificate invalid.
        start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=2)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + _LIFETIME)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        return cls(key, builder.sign(key, hashes.SHA256()))

    @classmethod
    def from_pem(cls, pem: bytes) -> Identity:
        """@raise ValueError: if C{pem} holds no P-256 key with its certificate."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
            certificate = x509.load_pem_x509_certificate(pem)
        except (TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
            raise ValueError(str(error)) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not _is_p256(key.curve):
            raise ValueError("the key is no P-256 key")
        if key.public_key() != certificate.public_key():
            raise ValueError("the certificate does not belong to the key")
        return cls(key, certificate)

    def to_pem(self) -> bytes:
        """The private key (unencrypted) and the certificate, to be kept in a 0600 file."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return key + self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return der(self.certificate)

    @property
    def fingerprint(self) -> str:
        """See L{fingerprint}."""
        return fingerprint(self.der)

    def sign(self, statement: bytes) -> bytes:
        """ECDSA with SHA-256, DER."""
        return self.key.sign(statement, ec.ECDSA(hashes.SHA256()))


def is_signed_by(certificate: bytes, signature: bytes, statement: bytes) -> bool:
    """
    Whether the holder of C{certificate}'s P-256 key signed C{statement}.

    All three come from a stranger: what does not parse is simply not signed.
    """
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not _is_p256(key.curve):
            return False
        key.verify(signature, statement, ec.ECDSA(hashes.SHA256()))
    except (
        ValueError,
        TypeError,
        InvalidSignature,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
    ):
        return False
    return True


def _is_p256(curve: ec.EllipticCurve) -> bool:
    return isinstance(curve, ec.SECP256R1)
