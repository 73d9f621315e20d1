"""Tests of L{relaytun.link.handshake}, by channels that make it or do not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL, crypto
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relaytun.link import handshake
from relaytun.link.channel import Channel
from relaytun.link.handshake import HandshakeError, Peer, explain
from relaytun.link.identity import Identity
from relaytun.link.records import RecordConnection
from relaytun.wire import frames
from relaytun.wire.frames import Kind, header

from .sockets import PROVIDER, STRANGER, TLS, VISITOR, Ends, Loop


def other_tls(
    identity: Identity | None, visitor: bool, change: Callable[[SSL.Context], Any]
) -> RecordConnection:
    """A TLS end that is not ours, and trusts everybody."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD if visitor else SSL.TLS_SERVER_METHOD)
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    context.clear_mode(1)
    if identity is not None:
        context.use_privatekey(crypto.PKey.from_cryptography_key(identity.key))
        context.use_certificate(crypto.X509.from_cryptography(identity.certificate))
    change(context)
    connection = RecordConnection(context, None)
    (connection.set_connect_state if visitor else connection.set_accept_state)()
    return connection


def with_alpn(context: SSL.Context) -> None:
    """As ours."""
    context.set_alpn_protos([handshake.PROTOCOL])
    context.set_alpn_select_callback(lambda _, offered: handshake.PROTOCOL)


class HandshakeTests(SynchronousTestCase):
    """Who gets through."""

    def setUp(self) -> None:
        self.loop = Loop()

    def ends(self, **keywords: Any) -> Ends:
        """Both ends, when all that they had to say has come."""
        ends = Ends(self.loop, **keywords)
        self.addCleanup(ends.close)
        return ends.start()

    def assert_refused(self, ends: Ends, *channels: Channel) -> None:
        """C{channels} know it; neither side delivers anything, and none is left."""
        for channel in channels:
            failure = ends.secured[channel]
            assert isinstance(failure, Failure), failure
            self.assertTrue(failure.check(HandshakeError))
        for one, other in ((ends.visitor, ends.provider), (ends.provider, ends.visitor)):
            one.send(header(Kind.PING))
            one.send(frames.ack(1, 2, 3))
            ends.settle()
            self.assertFalse(other.open and one.open)
        self.assertEqual([owner.frames for owner in ends.owners], [[], []])
        for channel in channels:
            self.assertFalse(channel.open)

    def test_right(self) -> None:
        """The right two get through, and know each other."""
        ends = self.ends()
        self.assertEqual(ends.secured, {ends.visitor: None, ends.provider: None})
        self.assertEqual(
            [peer.seen for peer in ends.peers], [PROVIDER.fingerprint, VISITOR.fingerprint]
        )
        self.assertFalse(any(peer.is_other for peer in ends.peers))
        for channel in (ends.visitor, ends.provider):
            self.assertEqual(channel.tls.get_protocol_version_name(), "TLSv1.3")
            self.assertEqual(channel.tls.get_alpn_proto_negotiated(), b"relaytun/1")
            self.assertEqual(channel.tls.get_cipher_name(), "TLS_AES_128_GCM_SHA256")
            self.assertFalse(channel.handshaking)

    def test_other_provider(self) -> None:
        """A visitor refuses whoever is not the provider that it was told of."""
        ends = self.ends(visitor_expects=STRANGER)
        self.assert_refused(ends, ends.visitor, ends.provider)
        self.assertTrue(ends.peers[0].is_other)
        self.assertEqual(ends.peers[0].seen, PROVIDER.fingerprint)

    def test_other_visitor(self) -> None:
        """A provider refuses whoever is not the visitor that it was told of."""
        ends = self.ends(provider_expects=STRANGER)
        self.assert_refused(ends, ends.provider)
        self.assertEqual(ends.peers[1].seen, VISITOR.fingerprint)

    def test_no_certificate(self) -> None:
        """A visitor without a certificate does not get through."""
        ends = self.ends(visitor=other_tls(None, True, with_alpn))
        self.assert_refused(ends, ends.provider)
        self.assertIsNone(ends.peers[1].seen)
        self.assertFalse(ends.peers[1].is_other)

    def test_old_tls(self) -> None:
        """Nobody talks anything older than TLS 1.3."""

        def old(context: SSL.Context) -> None:
            with_alpn(context)
            context.set_max_proto_version(SSL.TLS1_2_VERSION)

        ends = self.ends(visitor=other_tls(VISITOR, True, old))
        self.assert_refused(ends, ends.visitor, ends.provider)
        ends = self.ends(provider=other_tls(PROVIDER, False, old))
        self.assert_refused(ends, ends.visitor, ends.provider)

    def test_the_other_tls_would_do(self) -> None:
        """What the other cases change is all that is wrong with them."""
        ends = self.ends(visitor=other_tls(VISITOR, True, with_alpn))
        self.assertEqual(ends.secured, {ends.visitor: None, ends.provider: None})

    def test_other_protocol(self) -> None:
        """TLS for another protocol, or for none in particular, is no link."""

        def http(context: SSL.Context) -> None:
            context.set_alpn_protos([b"http/1.1"])
            context.set_alpn_select_callback(lambda _, offered: SSL.NO_OVERLAPPING_PROTOCOLS)

        for change in (http, lambda context: None):
            ends = self.ends(visitor=other_tls(VISITOR, True, change))
            self.assert_refused(ends, ends.provider)
            ends = self.ends(provider=other_tls(PROVIDER, False, change))
            self.assert_refused(ends, ends.visitor)

    def test_garbage(self) -> None:
        """What is no TLS at all is refused, by either side."""
        for direction in (True, False):
            for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\xff" * 1000):
                ends = Ends(self.loop)
                self.addCleanup(ends.close)
                ends.relay.tamper[direction] = lambda data, garbage=garbage: garbage
                ends.start()
                self.assert_refused(ends, ends.provider if direction else ends.visitor)

    def test_mirrored(self) -> None:
        """A relay that sends a side's own bytes back to it gets nowhere."""
        ends = Ends(self.loop)
        self.addCleanup(ends.close)
        relay = ends.relay

        def mirror(data: bytes) -> bytes:
            with contextlib.suppress(OSError):
                relay.near.send(data)
            return b""

        relay.tamper[True] = mirror
        ends.start()
        self.assert_refused(ends, ends.visitor)

    def test_own_identity(self) -> None:
        """One identity at both ends is as good as two."""
        peers = Peer(VISITOR.fingerprint), Peer(VISITOR.fingerprint)
        tls = TLS[VISITOR.fingerprint]
        ends = self.ends(
            visitor=tls.connection(True, peers[0]), provider=tls.connection(False, peers[1])
        )
        self.assertEqual(ends.secured, {ends.visitor: None, ends.provider: None})

    def test_explain(self) -> None:
        """Every error is a few words, also those that say nothing themselves."""
        for error, words in [
            (SSL.ZeroReturnError(), "the other side closed the channel"),
            (SSL.SysCallError(104, "ECONNRESET"), "the connection broke"),
            (SSL.Error([("", "", "bad record type")]), "TLS failed: bad record type"),
            (SSL.Error(), "TLS failed: the connection broke"),
            (OSError(), "the connection broke"),
        ]:
            self.assertEqual(explain(error), words)
