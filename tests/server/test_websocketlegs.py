"""Tests of L{relaytun.server.websocketlegs}: what of the control port is a leg."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relaytun.server.admission import Admission
from relaytun.server.websocketlegs import HANDSHAKE_TIMEOUT, FirstLine, FirstLineFactory
from relaytun.wire import websocket
from relaytun.wire.httphead import HeadReader
from relaytun.wire.websocket import Opcode

from ..plane.test_websocket import FakeReactor

PEER = IPv4Address("TCP", "192.0.2.7", 4711)
REQUEST = websocket.request("x", "/secret/leg", websocket.new_key())


class Signalling(Protocol):
    """
    @ivar data: what it was given.
    """

    accepted: float | None = None
    client_address: str | None = None

    def connectionMade(self) -> None:
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data


class Transport(StringTransport):
    """With a socket of its own; a protocol may make way for another."""

    def __init__(self) -> None:
        super().__init__(peerAddress=PEER)
        self.sock = socket.socket()
        self.protocol: Any = None
        self.aborted = False

    def getHandle(self) -> socket.socket:
        return self.sock

    def abortConnection(self) -> None:
        self.aborted = True


class FirstLineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.admission = Admission()
        self.legs: list[tuple[socket.socket, Any]] = []
        self.room = True
        self.factory = FirstLineFactory(
            self.reactor,  # type: ignore[arg-type]
            Factory.forProtocol(Signalling),
            self.admission,
            "/secret",
            lambda sock, address: self.legs.append((sock, address)),
            lambda: self.room,
        )

    def connect(self) -> Transport:
        transport = Transport()
        self.addCleanup(transport.sock.close)
        transport.protocol = self.factory.buildProtocol(PEER)
        transport.protocol.makeConnection(transport)
        return transport

    def status(self, transport: Transport) -> int:
        head = HeadReader().feed(transport.value())
        assert head is not None
        return head.status()

    def test_signalling(self) -> None:
        """What is no request for a leg goes to the signalling, byte for byte, with its address."""
        for data in (
            b"GET / HTTP/1.1\r\n",
            b"GET /secret HTTP/1.1\r\n",
            b"GET /secret/legs HTTP/1.1\r\n",
            b"GET /secret/leg HTTP/1.0\r\n",
            b"\0",
        ):
            transport = self.connect()
            for number in range(len(data)):
                transport.protocol.dataReceived(data[number : number + 1])
            protocol = transport.protocol
            self.assertIsInstance(protocol, Signalling)
            self.assertEqual(
                (protocol.data, protocol.accepted, protocol.client_address),
                (data, 0.0, "192.0.2.7"),
            )
        self.assertEqual((len(self.admission), self.reactor.getDelayedCalls()), (0, []))

    def test_leg(self) -> None:
        """A leg's bytes come out of a socket, those too that came with the request."""
        for size in (1, 1000):
            transport = self.connect()
            data = REQUEST + websocket.frame(Opcode.BINARY, b"RTN1", masked=True)
            for start in range(0, len(data), size):
                transport.protocol.dataReceived(data[start : start + size])
            self.assertEqual(self.status(transport), 101)
            sock, address = self.legs.pop()
            self.addCleanup(sock.close)
            self.assertEqual((sock.recv(99), address), (b"RTN1", ("192.0.2.7", 4711)))
            self.assertEqual(len(self.admission), 0)
            transport.protocol.connectionLost(Failure(connectionDone.value))
            self.assertEqual(sock.recv(99), b"")

    def test_refused(self) -> None:
        """Web pages, nonsense and heads without end are answered, and nothing more is read."""
        first = REQUEST[: REQUEST.index(b"\r\n") + 2]
        for rest, status in (
            (b"Origin: null\r\n\r\n", 403),
            (b"Upgrade: h2c\r\n\r\n", 400),
            (b"bad line\r\n\r\n", 400),
            (b"a: " + bytes(20_000), 400),
        ):
            transport = self.connect()
            transport.protocol.dataReceived(first + rest)
            self.assertEqual(self.status(transport), status)
            self.assertTrue(transport.disconnecting)
            said = transport.value()
            transport.protocol.dataReceived(REQUEST)
            self.assertEqual(transport.value(), said)
        self.assertEqual((self.legs, len(self.admission)), ([], 0))

    def test_full(self) -> None:
        """Without room for one more leg it is told to come back."""
        self.room = False
        transport = self.connect()
        transport.protocol.dataReceived(REQUEST)
        self.assertEqual((self.status(transport), self.legs), (503, []))

    def test_too_slow(self) -> None:
        """The time runs from the accepted connection, whatever was waited for before."""
        transport = Transport()
        self.addCleanup(transport.sock.close)
        protocol = self.factory.buildProtocol(PEER)
        assert isinstance(protocol, FirstLine)
        protocol.accepted = -4.0
        protocol.makeConnection(transport)
        protocol.dataReceived(REQUEST[:40])
        self.reactor.advance(HANDSHAKE_TIMEOUT - 4.5)
        self.assertFalse(transport.aborted)
        self.reactor.advance(0.5)
        self.assertTrue(transport.aborted)

    def test_gone(self) -> None:
        """Who goes away leaves nothing behind."""
        transport = self.connect()
        self.assertEqual(len(self.admission), 1)
        transport.protocol.connectionLost(Failure(connectionDone.value))
        self.assertEqual((len(self.admission), self.reactor.getDelayedCalls()), (0, []))
