"""
The certificate that proves to an authority that a host name is ours (RFC 8737).

It is shown to whoever asks for the protocol acme-tls/1, and to nobody else.
"""

from __future__ import annotations

import datetime
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from .credential import context

#: The application protocol by which an authority asks for it.
ACME_TLS = b"acme-tls/1"

_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_LIFETIME = datetime.timedelta(days=7)
#: Of DER: an octet string of 32 bytes.
_OCTETS = b"\x04\x20"


def proof(name: str, key_authorization: str) -> SSL.Context:
    """
    @param name: the host name.
    @param key_authorization: what the authority's token and the account's key make.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    nobody = x509.Name([])
    digest = hashlib.sha256(key_authorization.encode("ascii")).digest()
    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(nobody)
        .issuer_name(nobody)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .add_extension(
            x509.UnrecognizedExtension(_ACME_IDENTIFIER, _OCTETS + digest), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    return context([certificate], key, ACME_TLS)
