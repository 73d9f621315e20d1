"""Tests of L{relaytun.nat.pipeend}: what a pipe sees of its program; the rest is the pipe's."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relaytun.nat.pipeend import PipeEnd


class PipeEndTests(SynchronousTestCase):
    """
    @ivar told: what the pipe was told.
    @ivar readers, writers: what the reactor looks at.
    """

    def setUp(self) -> None:
        self.readers: list[Any] = []
        self.writers: list[Any] = []
        self.addReader, self.removeReader = self.readers.append, self.readers.remove
        self.addWriter, self.removeWriter = self.writers.append, self.writers.remove
        self.told: list[Any] = []
        self.program, sock = socket.socketpair()
        self.addCleanup(self.program.close)
        self.addCleanup(sock.close)
        sock.setblocking(False)
        reactor: Any = self
        self.end = PipeEnd(
            reactor,
            sock,
            lambda: self.told.append("readable"),
            self.told.append,
            lambda: self.told.append("broken"),
        )

    def test_reading(self) -> None:
        """It is read while that is wanted; what the reactor still says later is nothing."""
        self.assertIsNone(self.end.read(9))
        self.end.read_on()
        self.end.read_on()
        self.assertEqual(self.readers, [self.end])
        self.end.doRead()
        self.end.pause()
        self.end.pause()
        self.end.doRead()
        self.assertEqual((self.readers, self.told), ([], ["readable"]))
        self.program.send(b"abc")
        self.assertEqual(self.end.read(2), b"ab")
        self.program.close()
        self.assertEqual((self.end.read(2), self.end.read(2)), (b"c", b""))

    def test_writing(self) -> None:
        """What the program does not take waits, in order, and is told when it is taken."""
        pieces = [bytes([number]) * 50_000 for number in range(20)]
        self.end.doWrite()
        self.end.pending.extend(pieces)
        self.end.deliver_soon()
        self.assertEqual(self.writers, [self.end])
        self.end.pending.append(b"the last one")
        self.end.deliver_soon()
        self.assertEqual(len(self.told), 1)
        got = b""
        while self.end.pending:
            got += self.program.recv(65536)
            self.end.doWrite()
        self.end.shut()
        self.end.shut()
        while data := self.program.recv(65536):
            got += data
        self.assertEqual(got, b"".join([*pieces, b"the last one"]))
        self.assertEqual((self.writers, sum(self.told)), ([], len(got)))

    def test_broken(self) -> None:
        """A program that is gone is noticed, in whatever way that shows."""
        self.end.connectionLost(Failure(ConnectionLost()))
        self.end.sock.close()
        self.end.pending.append(b"for nobody")
        self.end.deliver()
        self.assertIsNone(self.end.read(1))
        self.assertEqual(self.told, ["broken"] * 3)

    def test_finish(self) -> None:
        """At the end the reactor looks at nothing, and the socket is given away to be closed."""
        self.end.read_on()
        self.end.pending.append(bytes(2**20))
        self.end.deliver()
        self.assertFalse(self.end.is_closed)
        self.end.finish(socket.socket.close)
        self.assertTrue(self.end.is_closed)
        self.assertEqual((self.readers, self.writers), ([], []))
