"""Tests of L{relaytun.server.http.transport}."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relaytun.plane.accept import close_in_order, reset
from relaytun.plane.pair import End, pair
from relaytun.server.http.transport import SocketTransport

from .support import Reactor

LARGE = bytes(4 << 20)


class Recorder:
    """A protocol that writes down what happens."""

    transport: SocketTransport

    def __init__(self) -> None:
        self.happened: list[Any] = []
        self.data = b""

    def makeConnection(self, transport: SocketTransport) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def readConnectionLost(self) -> None:
        self.happened.append("read lost")

    def writeConnectionLost(self) -> None:
        self.happened.append("write lost")

    def connectionLost(self, reason: Failure) -> None:
        self.happened.append(reason.type)

    def pauseProducing(self) -> None:
        self.happened.append("pause")

    def resumeProducing(self) -> None:
        self.happened.append("resume")


class TransportTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.near, self.far = pair()
        self.addCleanup(self.far.close)
        self.addCleanup(self.near.close)
        self.protocol = Recorder()
        self.transport = SocketTransport(self.reactor, self.near, self.protocol)  # type: ignore
        self.transport.registerProducer(self.protocol, True)

    def turn(self) -> None:
        while self.reactor.turn():
            pass

    def read(self, size: int) -> int:
        """Read so many bytes at the other end, or to its end."""
        count = 0
        while count < size:
            try:
                data = self.far.recv(size - count)
            except BlockingIOError:
                self.reactor.turn()
                continue
            if not data:
                break
            count += len(data)
        return count

    def assert_over(self, *happened: Any) -> None:
        self.turn()
        self.assertEqual(self.protocol.happened, list(happened))
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))
        self.assertEqual(self.near.fileno(), -1)

    def test_at_once(self) -> None:
        """A write is done at once; the reactor does not hear of it."""
        self.transport.write(b"hello")
        self.assertEqual(self.reactor.writers, set())
        self.assertEqual(self.far.recv(10), b"hello")

    def test_full(self) -> None:
        """What does not fit is kept, its producer paused until all of it is gone."""
        self.transport.write(LARGE)
        self.transport.write(b"more")
        self.assertEqual(self.protocol.happened, ["pause"])
        self.assertEqual(self.read(len(LARGE) + 4), len(LARGE) + 4)
        self.turn()
        self.assertEqual(self.protocol.happened, ["pause", "resume"])
        self.assertEqual(self.reactor.writers, set())

    def test_close(self) -> None:
        """Closing waits until all is written, and is an end in order."""
        self.transport.write(LARGE)
        self.transport.loseConnection()
        self.transport.write(b"too late")
        self.transport.loseConnection()
        self.assertEqual(self.read(len(LARGE) + 1), len(LARGE))
        self.assertFalse(self.far.broken)
        self.assert_over("pause", ConnectionDone)
        self.transport.loseConnection()
        self.transport.abortConnection()
        self.assert_over("pause", ConnectionDone)

    def test_half_close(self) -> None:
        """So does closing the one direction; the other stays."""
        self.transport.write(LARGE)
        self.transport.loseWriteConnection()
        self.transport.loseWriteConnection()
        self.assertEqual(self.read(len(LARGE) + 1), len(LARGE))
        self.far.send(b"answer")
        self.turn()
        self.assertEqual(self.protocol.data, b"answer")
        self.transport.stopProducing()
        self.assert_over("pause", ConnectionDone)

    def test_abort(self) -> None:
        """An abort is at once, and the other side sees that it broke."""
        self.transport.write(LARGE)
        self.transport.abortConnection()
        self.read(1 << 30)
        self.assertTrue(self.far.broken)
        self.assert_over("pause", ConnectionAborted)

    def test_end(self) -> None:
        """The other side's end in order leaves the way there open."""
        self.far.send(b"last")
        self.far.shutdown(socket.SHUT_WR)
        self.turn()
        self.assertEqual((self.protocol.data, self.protocol.happened), (b"last", ["read lost"]))
        self.transport.write(b"answer")
        self.assertEqual(self.far.recv(10), b"answer")
        self.transport.resumeProducing()
        self.transport.loseConnection()
        self.assert_over("read lost", ConnectionDone)

    def test_broken(self) -> None:
        """A stream that broke is no end in order."""
        self.far.send(b"part")
        reset(self.far)
        self.turn()
        self.assertEqual(self.protocol.data, b"part")
        self.assert_over(ConnectionLost)

    def test_write_fails(self) -> None:
        """A write that fails is told later, once; what came before it can still be read."""
        self.far.send(b"last")
        close_in_order(self.far)
        self.transport.pauseProducing()
        self.transport.write(b"x")
        self.transport.write(b"y")
        self.assertTrue(self.transport.failed)
        self.assertEqual(self.protocol.happened, [])
        self.turn()
        self.assertEqual(self.protocol.happened, ["write lost"])
        self.transport.resumeProducing()
        self.turn()
        self.assertEqual(self.protocol.data, b"last")
        self.transport.loseWriteConnection()
        self.transport.loseConnection()
        self.assert_over("write lost", "read lost", ConnectionDone)

    def test_write_fails_later(self) -> None:
        """The same if there were bytes that waited."""
        self.transport.write(LARGE)
        self.far.recv(1 << 20)
        self.far.shutdown(socket.SHUT_RD)
        self.turn()
        self.assertEqual(self.protocol.happened, ["pause", "write lost"])
        self.transport.loseWriteConnection()
        self.turn()
        self.assertEqual(self.protocol.happened, ["pause", "write lost"])
        self.transport.abortConnection()
        self.assert_over("pause", "write lost", ConnectionAborted)

    def test_left_unread(self) -> None:
        """Who closes without having read everything has broken the stream."""
        self.transport.write(LARGE)
        close_in_order(self.far)
        self.assert_over("pause", ConnectionLost)

    def test_hang_up(self) -> None:
        """When the reactor sees a hang-up, what can be read is read first."""
        self.far.send(b"last")
        close_in_order(self.far)
        self.reactor.readers.clear()
        self.transport.connectionLost(Failure(ConnectionLost()))
        self.turn()
        self.assertEqual(self.protocol.data, b"last")
        self.assertEqual(sorted(self.protocol.happened), ["read lost", "write lost"])
        self.transport.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.protocol.happened[2:], [ConnectionLost])

    def test_fault(self) -> None:
        """A fault of ours, which the reactor has logged, ends it."""
        self.reactor.readers.clear()
        self.transport.connectionLost(Failure(ZeroDivisionError()))
        self.assert_over(ConnectionLost)

    def test_has_input(self) -> None:
        """It can be asked whether something is there, without taking it."""
        self.assertFalse(self.transport.has_input())
        self.far.send(b"x")
        self.assertTrue(self.transport.has_input())
        self.turn()
        self.assertEqual(self.protocol.data, b"x")
        close_in_order(self.far)
        self.assertTrue(self.transport.has_input())

    def test_late_calls(self) -> None:
        """The reactor may call once more after it was told not to."""
        self.transport.pauseProducing()
        self.far.send(b"x")
        self.transport.doRead()
        self.transport.doWrite()
        self.assertEqual(self.protocol.data, b"")
        self.transport.unregisterProducer()
        self.transport.write(LARGE)
        self.assertEqual(self.read(len(LARGE)), len(LARGE))
        self.turn()
        self.assertEqual(self.protocol.happened, [])

    def test_reset_by_peer(self) -> None:
        """So it is with TCP."""
        listening = socket.create_server(("127.0.0.1", 0))
        far = socket.create_connection(listening.getsockname())
        near, _ = listening.accept()
        listening.close()
        near.setblocking(False)
        protocol = Recorder()
        transport = SocketTransport(self.reactor, near, protocol)  # type: ignore
        reset(far)
        for _ in range(1000):
            self.reactor.turn()
            if protocol.happened:
                break
        self.assertEqual(protocol.happened, [ConnectionLost])
        self.assertTrue(transport.disconnected)
        self.assertNotIsInstance(near, End)
