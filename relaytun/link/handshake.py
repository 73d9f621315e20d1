"""
TLS 1.3 between the two clients of a link.

Each shows its identity's certificate and takes exactly one of the other side: the one with the
fingerprint that it expects.  Authorities, names and dates mean nothing here.
"""

from __future__ import annotations

import hmac
from typing import Any

from OpenSSL import SSL, crypto

from .identity import Identity, der, fingerprint
from .records import RecordConnection

#: What both sides say by ALPN, so that no TLS of another kind is mistaken for this.
PROTOCOL = b"relaytun/1"
# AES-128 first: as good as the others here, and the fastest.
_CIPHERS = b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
# SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL sets and does not name: a frame is one call.
_PARTIAL_WRITE = 1


class HandshakeError(Exception):
    """The other side is not who it should be, or there is no TLS to be had with it."""


class Peer:
    """
    Who the other side should be.

    @ivar seen: the fingerprint of the certificate that it has shown.
    """

    def __init__(self, expected: str) -> None:
        """@param expected: C{sha256:} and 64 hexadecimal digits."""
        self.expected = expected
        self.seen: str | None = None

    def is_expected(self, certificate: bytes) -> bool:
        """@param certificate: DER."""
        self.seen = fingerprint(certificate)
        return hmac.compare_digest(self.seen, self.expected)

    @property
    def is_other(self) -> bool:
        """Whether somebody else has answered."""
        return self.seen is not None and self.seen != self.expected


class LinkTLS:
    """The TLS settings of one client, for all of its links."""

    def __init__(self, identity: Identity) -> None:
        self._contexts = {
            True: _context(SSL.TLS_CLIENT_METHOD, identity),
            False: _context(SSL.TLS_SERVER_METHOD, identity),
        }
        self._contexts[True].set_alpn_protos([PROTOCOL])
        self._contexts[False].set_alpn_select_callback(_choose)

    def connection(self, visitor: bool, peer: Peer) -> RecordConnection:
        """
        @param visitor: whether this side is the visitor, which is the TLS client.
        @return: a connection on memory, before its handshake.
        """
        connection = RecordConnection(self._contexts[visitor], None)
        connection.set_app_data(peer)
        if visitor:
            connection.set_connect_state()
        else:
            connection.set_accept_state()
        return connection


def explain(error: Exception) -> str:
    """What a TLS or socket error means, in a few words."""
    if isinstance(error, SSL.ZeroReturnError):
        return "the other side closed the channel"
    if isinstance(error, SSL.SysCallError):
        return "the connection broke"
    if isinstance(error, SSL.Error):
        reasons = error.args[0] if error.args else ()
        words = ", ".join(str(reason[-1]) for reason in reasons)
        return f"TLS failed: {words or 'the connection broke'}"
    return "the connection broke"


def _context(method: int, identity: Identity) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(_CIPHERS)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_privatekey(crypto.PKey.from_cryptography_key(identity.key))
    context.use_certificate(crypto.X509.from_cryptography(identity.certificate))
    context.clear_mode(_PARTIAL_WRITE)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    return context


def _verify(
    connection: SSL.Connection, shown: crypto.X509, error: int, depth: int, ok: int
) -> bool:
    peer = connection.get_app_data()
    if depth or not isinstance(peer, Peer):
        return False  # An identity's certificate is signed by nobody else.
    return peer.is_expected(der(shown.to_cryptography()))


def _choose(connection: SSL.Connection, offered: list[bytes]) -> Any:
    return PROTOCOL if PROTOCOL in offered else SSL.NO_OVERLAPPING_PROTOCOLS
