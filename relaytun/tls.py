"""
TLS for the control connection.

The server shows a certificate, made by itself or given; a client always verifies it: by the
fingerprint that it was given, or by the authorities that the platform trusts and the host name.
There is no third way.
"""

from __future__ import annotations

import hmac
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion, optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from .errors import UserError
from .link.identity import Identity, fingerprint


def options_of_identity(identity: Identity) -> CertificateOptions:
    """TLS options of a server that shows the certificate that it made itself."""
    return CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(identity.key),
        certificate=crypto.X509.from_cryptography(identity.certificate),
        raiseMinimumTo=TLSVersion.TLSv1_2,
    )


def options_of_files(certificate: Path, key: Path) -> tuple[CertificateOptions, Certificate]:
    """
    TLS options of a server that shows a certificate from files.

    @param certificate: PEM, the server's own first, then what leads to its authority.
    @return: the options, and the server's own certificate.
    @raise UserError: if the files do not hold a pair.
    """
    try:
        chain = load_pem_x509_certificates(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{certificate}: no PEM certificate can be read: {error}") from None
    try:
        private = load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{key}: no unencrypted PEM key can be read: {error}") from None
    if private.public_key() != chain[0].public_key():
        raise UserError(f"{key} is not the key of the first certificate in {certificate}")
    options = CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(private),  # type: ignore[arg-type]
        certificate=crypto.X509.from_cryptography(chain[0]),
        extraCertChain=[crypto.X509.from_cryptography(extra) for extra in chain[1:]],
        raiseMinimumTo=TLSVersion.TLSv1_2,
    )
    return options, chain[0]


@implementer(IOpenSSLClientConnectionCreator)
class PinnedServer:
    """
    Takes the one server whose certificate has the given fingerprint, and no other.

    @ivar seen: the fingerprint of the certificate that was last shown.
    """

    def __init__(self, pinned: str) -> None:
        """@param pinned: C{sha256:} and 64 hexadecimal digits."""
        self._pinned = pinned
        self.seen: str | None = None
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_2_VERSION)
        self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        self._context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """What Twisted wraps the transport with."""
        return SSL.Connection(self._context, None)

    def _verify(
        self, connection: SSL.Connection, shown: crypto.X509, error: int, depth: int, ok: int
    ) -> bool:
        if depth:
            return True  # The pin is on the server's own certificate, whoever signed it.
        self.seen = fingerprint(crypto.dump_certificate(crypto.FILETYPE_ASN1, shown))
        return hmac.compare_digest(self.seen, self._pinned)


def server_verification(host: str, pinned: str | None) -> IOpenSSLClientConnectionCreator:
    """
    How a client verifies the server.

    @param host: the name or address that it dials.
    @param pinned: the fingerprint, or C{None} for the authorities and the host name.
    """
    if pinned is not None:
        creator: IOpenSSLClientConnectionCreator = PinnedServer(pinned)
        return creator
    verified: IOpenSSLClientConnectionCreator = optionsForClientTLS(host)
    return verified
