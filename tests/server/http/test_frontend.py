"""Tests of L{relaytun.server.http.frontend} on Twisted's own transports."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.testing import StringTransport
from zope.interface import alsoProvides

from .support import GET, OK, HttpTestCase
from .test_upgrade import REQUEST, SWITCH


class Transport(StringTransport):
    """Half-close, as TCP has it."""

    ended = False
    aborted = False

    def loseWriteConnection(self) -> None:
        """See L{IHalfCloseable}."""
        self.ended = True

    def abortConnection(self) -> None:
        """See L{ITCPTransport}."""
        self.aborted = True


class TwistedTests(HttpTestCase):
    def connect(self, **options: Any) -> tuple[Any, Transport]:
        protocol = self.factory.buildProtocol(None)
        transport = Transport(peerAddress=IPv4Address("TCP", "203.0.113.5", 1))
        self.addCleanup(protocol.connectionLost)
        return protocol, transport

    def settle(self) -> None:
        for service in self.opened:
            service.settle()

    def test_transport(self) -> None:
        """The visitor's address is the transport's, unless it is set."""
        self.factory = self.make_factory(secure=True)
        self.route()
        for address, expected in ((None, b"203.0.113.5"), (("198.51.100.9", 5), b"198.51.100.9")):
            protocol, transport = self.connect()
            if address:
                protocol.address = address
            protocol.makeConnection(transport)
            protocol.dataReceived(GET)
            _first, fields, _body = self.head(self.service().take())
            self.assertEqual(fields[b"x-forwarded-for"], expected)
            self.assertEqual(fields[b"x-forwarded-proto"], b"https")
            self.service().send(OK)
            self.assertEqual(transport.value(), OK)

    def test_paused(self) -> None:
        """While the transport is full the service waits."""
        self.route()
        protocol, transport = self.connect()
        protocol.makeConnection(transport)
        protocol.dataReceived(GET)
        self.assertIs(transport.producer, protocol)
        transport.producer.pauseProducing()
        self.service().send(OK)
        self.assertEqual(transport.value(), b"")
        transport.producer.resumeProducing()
        self.settle()
        self.assertEqual(transport.value(), OK)

    def test_stalled(self) -> None:
        """Who reads nothing for long is let go."""
        self.route()
        protocol, transport = self.connect()
        protocol.makeConnection(transport)
        protocol.dataReceived(GET)
        self.service().send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx")
        protocol.pauseProducing()
        self.reactor.pump([10] * 31)
        self.assertTrue(transport.aborted)

    def test_linger(self) -> None:
        """After a refusal the visitor is listened to for a moment, and not answered."""
        self.route()
        protocol, transport = self.connect()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"\x00")
        self.assertTrue(transport.ended)
        self.assertIsNone(transport.producer)
        size = len(transport.value())
        protocol.dataReceived(GET)
        self.assertEqual(len(transport.value()), size)
        self.assertFalse(transport.aborted)
        self.reactor.pump([1] * 6)
        self.assertTrue(transport.aborted)

    def test_secure(self) -> None:
        """TLS has no half of an end: it is closed."""
        self.route()
        protocol, transport = self.connect()
        alsoProvides(transport, ISSLTransport)
        protocol.makeConnection(transport)
        protocol.dataReceived(b"\x00")
        self.assertTrue(transport.disconnecting)

    def test_secure_upgrade(self) -> None:
        """Also where an upgraded connection ends: nothing holds it open."""
        self.route()
        protocol, transport = self.connect()
        alsoProvides(transport, ISSLTransport)
        protocol.makeConnection(transport)
        protocol.dataReceived(REQUEST)
        self.service().send(SWITCH)
        self.service().close()
        self.settle()
        self.assertIsNone(transport.producer)
        self.assertTrue(transport.disconnecting)

    def test_ahead(self) -> None:
        """Not more is read ahead than a little."""
        self.route()
        protocol, transport = self.connect()
        protocol.makeConnection(transport)
        protocol.dataReceived(GET)
        self.assertEqual(transport.producerState, "producing")
        protocol.dataReceived(GET * 3000)
        self.assertEqual(transport.producerState, "paused")
        for _ in range(3001):
            self.service().send(OK)
        self.assertEqual(transport.value().count(b"200 OK"), 3001)
        self.assertEqual(transport.producerState, "producing")
