"""
What a server shows for a host name: a certificate, what leads to its authority, and the key.

Read from PEM; where that comes from, and when it is to be replaced, is for others to know.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

HTTP_1_1 = b"http/1.1"
#: Those of TLS 1.2 that keep secrets when the key becomes known; TLS 1.3 has no others.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
_NAME = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")


@dataclass(frozen=True, eq=False)
class Credential:
    """
    @ivar chain: the server's own certificate first.
    @ivar names: the host names that it is for, in lower case; some may begin with C{*.}.
    """

    chain: tuple[x509.Certificate, ...]
    key: Any
    names: frozenset[str]

    @classmethod
    def from_pem(cls, chain: bytes, key: bytes) -> Credential:
        """
        @param chain, key: may be the same text with both in it.
        @raise ValueError: if they do not hold a pair; the text says why.
        """
        try:
            certificates = tuple(x509.load_pem_x509_certificates(chain))
            public = certificates[0].public_key()
            names = frozenset(filter(_NAME.fullmatch, _host_names(certificates[0])))
        except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
            raise ValueError(f"no PEM certificate can be read: {error}") from None
        try:
            private = load_pem_private_key(key, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(f"no unencrypted PEM key can be read: {error}") from None
        if private.public_key() != public:
            raise ValueError("the key is not that of the first certificate")
        if not names:
            raise ValueError("the certificate is for no host name")
        return cls(certificates, private, names)

    @property
    def begins(self) -> datetime.datetime:
        """Since when it is valid."""
        return self.chain[0].not_valid_before_utc

    @property
    def ends(self) -> datetime.datetime:
        """Until when it is valid."""
        return self.chain[0].not_valid_after_utc

    @cached_property
    def context(self) -> SSL.Context:
        """
        What ends TLS with it.  Made when the first visitor comes: there may be thousands.

        @raise OpenSSL.SSL.Error: if OpenSSL finds it too weak, for one.
        """
        return context(self.chain, self.key, HTTP_1_1)


def context(chain: Sequence[x509.Certificate], key: Any, protocol: bytes) -> SSL.Context:
    """
    @param protocol: the one application protocol that is agreed to, if the client offers any.
    @return: what ends TLS, 1.2 or later.
    """

    def agree(_: SSL.Connection, offered: list[bytes]) -> Any:
        return protocol if protocol in offered else SSL.NO_OVERLAPPING_PROTOCOLS

    made = SSL.Context(SSL.TLS_SERVER_METHOD)
    made.set_min_proto_version(SSL.TLS1_2_VERSION)
    made.set_cipher_list(_CIPHERS)
    made.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    made.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    made.set_alpn_select_callback(agree)
    made.use_certificate(chain[0])
    for authority in chain[1:]:
        made.add_extra_chain_cert(authority)
    made.use_privatekey(key)
    return made


def _host_names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]
