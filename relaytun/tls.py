"""
TLS for the control connection.

The server shows a certificate, made by itself or given; a client always verifies it: by the
fingerprint that it was given, or by the authorities that the platform trusts and the host name.
There is no third way.
"""

from __future__ import annotations

import hmac
import ipaddress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, InvalidVersion, load_pem_x509_certificates
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, ServiceID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
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
        public = chain[0].public_key()
    except (OSError, ValueError, InvalidVersion, UnsupportedAlgorithm) as error:
        raise UserError(f"{certificate}: no PEM certificate can be read: {error}") from None
    try:
        private = load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(f"{key}: no unencrypted PEM key can be read: {error}") from None
    if private.public_key() != public:
        raise UserError(f"{key} is not the key of the first certificate in {certificate}")
    options = CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(private),  # type: ignore[arg-type]
        certificate=crypto.X509.from_cryptography(chain[0]),
        extraCertChain=[crypto.X509.from_cryptography(extra) for extra in chain[1:]],
        raiseMinimumTo=TLSVersion.TLSv1_2,
    )
    try:
        options.getContext()  # Not only when the first client comes.
    except SSL.Error as error:
        why = ", ".join(reason for _, _, reason in error.args[0]) if error.args else "refused"
        raise UserError(f"{certificate} cannot be used with {key}: {why}") from None
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


@implementer(IOpenSSLClientConnectionCreator)
class NamedServer:
    """
    Takes a server that an authority of this platform vouches for, under the name dialled.

    Twisted looks at the name too, but keeps OpenSSL's verdict when the certificate has no name
    at all, or one that service-identity cannot read (C{_verifyCB} in Twisted 26.10).  Here
    everything but a match is a no.
    """

    def __init__(self, host: str) -> None:
        """@param host: a name or an IP address."""
        self._host = host
        self._trusted = optionsForClientTLS(host)

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """What Twisted wraps the transport with."""
        connection = self._trusted.clientConnectionForTLS(protocol)
        wanted: ServiceID
        try:
            wanted = IPAddress_ID(ipaddress.ip_address(self._host))
        except ValueError:
            wanted = DNS_ID(self._host)

        def verify(_: SSL.Connection, shown: crypto.X509, error: int, depth: int, ok: int) -> bool:
            if depth or not ok:
                return bool(ok)
            try:
                verify_service_identity(extract_patterns(shown), [wanted], [])
            except (CertificateError, VerificationError):
                return False
            return True

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection


def server_verification(host: str, pinned: str | None) -> IOpenSSLClientConnectionCreator:
    """
    How a client verifies the server.

    @param host: the name or address that it dials.
    @param pinned: the fingerprint, or C{None} for the authorities and the host name.
    """
    if pinned is not None:
        creator: IOpenSSLClientConnectionCreator = PinnedServer(pinned)
        return creator
    named: IOpenSSLClientConnectionCreator = NamedServer(host)
    return named
