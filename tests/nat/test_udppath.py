"""Tests of L{relaytun.nat.udppath}, over loopback."""

from __future__ import annotations

import select
import socket

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relaytun.nat.udppath import UdpPath


class Reactor:
    """Remembers who is watched."""

    def __init__(self) -> None:
        self.readers: set[object] = set()
        self.addReader = self.readers.add
        self.removeReader = self.readers.discard


class UdpPathTests(SynchronousTestCase):
    """Datagrams that come and go."""

    def setUp(self) -> None:
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for sock in self.sockets:
            self.addCleanup(sock.close)
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        self.sockets[0].connect(self.sockets[1].getsockname())
        self.reactor = Reactor()
        self.came: list[bytes] = []
        self.path = UdpPath(self.reactor, self.sockets[0], self.came.append)  # type: ignore[arg-type]

    def test_both_ways(self) -> None:
        """What is sent arrives as it is; of what comes, a batch is read in one turn."""
        self.path.send(b"there")
        select.select([self.sockets[1]], [], [], 5)
        self.assertEqual(self.sockets[1].recv(99), b"there")
        for number in range(10):
            self.sockets[1].sendto(b"%d" % number, self.sockets[0].getsockname())
        select.select([self.path], [], [], 5)
        self.path.doRead()
        self.assertEqual(self.came, [b"%d" % number for number in range(10)])

    def test_stranger(self) -> None:
        """What comes from anybody else is not seen."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"hello", self.sockets[0].getsockname())
        self.path.doRead()
        self.assertEqual(self.came, [])

    def test_nobody_there(self) -> None:
        """That the other side's port is closed loses datagrams, and is no error."""
        self.sockets[1].close()
        for _ in range(3):
            self.path.send(b"anybody?")
            self.path.doRead()
        self.path.doWrite()
        self.path.connectionLost(Failure(OSError()))
        self.assertEqual(self.reactor.readers, {self.path})

    def test_close(self) -> None:
        """It is closed once, and then it is not watched; nothing can be sent or read any more."""
        self.path.close()
        self.path.close()
        self.assertEqual(self.reactor.readers, set())
        self.path.send(b"late")
        self.path.doRead()
        self.assertEqual(self.came, [])

    def test_too_long(self) -> None:
        """A datagram that no path takes is lost without an error."""
        self.path.send(bytes(66_000))
