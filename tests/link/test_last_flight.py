"""Tests for L{relaytun.link.channel}: how it ends during the handshake."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.link.channel import Channel
from relaytun.link.handshake import HandshakeError, LinkTLS, Peer
from relaytun.link.identity import Identity

VISITOR, PROVIDER = Identity.make("visitor"), Identity.make("provider")


class FakeReactor(Clock):
    """
    A clock with readers.

    @ivar readers: those that are to be told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)


class FakeSocket:
    """
    @ivar sent: what was written, each time.
    @ivar incoming: what is to be read.
    @ivar broken: whether writing fails from now on.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.incoming = b""
        self.broken = False

    def send(self, data: memoryview) -> int:
        if self.broken:
            raise ConnectionResetError
        self.sent.append(bytes(data))
        return len(data)

    def recv_into(self, buffer: memoryview) -> int:
        size = len(self.incoming)
        buffer[:size] = self.incoming
        self.incoming = b""
        return size

    def close(self) -> None:
        self.broken = True


class HandshakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.sock = FakeSocket()
        tls = LinkTLS(VISITOR).connection(True, Peer(PROVIDER.fingerprint))
        self.channel = Channel(self.reactor, self.sock, tls)  # type: ignore[arg-type]
        self.other = LinkTLS(PROVIDER).connection(False, Peer(VISITOR.fingerprint))
        self.channel.start()
        self.other.bio_write(self.sock.sent[0])
        self.assertRaises(SSL.WantReadError, self.other.do_handshake)
        self.sock.incoming = self.other.bio_read(65536)

    def test_secured(self) -> None:
        """When its last flight is written, and not before, it is secured."""
        self.channel.doRead()
        self.successResultOf(self.channel.secured)
        self.other.bio_write(self.sock.sent[1])
        self.other.do_handshake()
        self.channel.close()

    def test_last_flight_lost(self) -> None:
        """A channel that breaks while it writes that was never secured, and leaves no timer."""
        self.sock.broken = True
        self.channel.doRead()
        self.failureResultOf(self.channel.secured, HandshakeError)
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), (set(), []))
