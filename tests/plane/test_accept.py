"""Tests for L{relaytun.plane.accept}."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import ServerFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from relaytun.plane import accept
from relaytun.plane.accept import Acceptor

from .test_splice import until


class AcceptorTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.accepted: list[socket.socket] = []
        self.port: Any = reactor.listenTCP(0, ServerFactory(), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(self.port.stopListening)

    def acceptor(self, **keywords: Any) -> Acceptor:
        def take(sock: socket.socket, address: Any) -> None:
            self.addCleanup(sock.close)
            self.accepted.append(sock)

        acceptor = Acceptor(reactor, self.port, take, **keywords)  # type: ignore[arg-type]
        self.addCleanup(acceptor.stop)
        return acceptor

    def dial(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port.getHost().port))
        self.addCleanup(sock.close)
        return sock

    async def test_connections_are_prepared(self) -> None:
        """A connection does not block, does not delay small writes, and is kept alive."""
        self.acceptor()
        self.dial()
        await until(lambda: self.accepted)
        sock = self.accepted[0]
        self.assertEqual(sock.gettimeout(), 0)
        self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertTrue(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    async def test_bursts(self) -> None:
        """All of many connections at once are taken."""
        self.acceptor()
        for _ in range(150):
            self.dial()
        await until(lambda: len(self.accepted) == 150)
        self.dial()
        await until(lambda: len(self.accepted) == 151)

    async def test_no_room(self) -> None:
        """While there is no room connections wait; when there is, they are taken."""
        room: list[bool] = []
        self.patch(accept, "BREATHER", 0.01)
        acceptor = self.acceptor(has_room=lambda: bool(room))
        self.dial()
        await until(lambda: acceptor._pause is not None)
        self.assertEqual(self.accepted, [])
        room.append(True)
        await until(lambda: self.accepted)

    async def test_no_descriptor(self) -> None:
        """Without a descriptor it looks again later, complains once, and recovers."""
        self.patch(accept, "BREATHER", 0.01)
        acceptor = self.acceptor()
        real, failures = acceptor._listening, [errno.EMFILE] * 3

        class Exhausted:
            fileno = real.fileno
            close = real.close

            def accept(self) -> Any:
                if failures:
                    raise OSError(failures.pop(), os.strerror(errno.EMFILE))
                return real.accept()

        warnings = []
        with mock.patch.object(Acceptor, "_log") as log:
            log.warn.side_effect = lambda *args, **kwargs: warnings.append(kwargs)
            acceptor._listening = Exhausted()  # type: ignore[assignment]
            self.dial()
            await until(lambda: self.accepted)
        self.assertEqual(len(warnings), 1)

    async def test_event_of_another(self) -> None:
        """A port that the reactor takes for dead listens on."""
        self.patch(accept, "BREATHER", 0.01)
        acceptor = self.acceptor()
        reactor.removeReader(acceptor)  # type: ignore[attr-defined]
        acceptor.connectionLost(Failure(ConnectionLost()))
        self.dial()
        await until(lambda: self.accepted)

    async def test_gone_before_it_was_accepted(self) -> None:
        """A peer that gave up in the queue is no reason to stop."""
        acceptor = self.acceptor()
        real, failures = acceptor._listening, [errno.ECONNABORTED]

        class Aborted:
            fileno = real.fileno
            close = real.close

            def accept(self) -> Any:
                if failures:
                    raise OSError(failures.pop(), "aborted")
                return real.accept()

        acceptor._listening = Aborted()  # type: ignore[assignment]
        self.dial()
        await until(lambda: self.accepted)

    def test_stop_while_waiting(self) -> None:
        """Stopping leaves no timer behind."""
        acceptor = self.acceptor(has_room=lambda: False)
        acceptor.doRead()
        acceptor.stop()
        self.assertEqual(acceptor.fileno(), -1)

    async def test_a_connection_that_goes_wrong(self) -> None:
        """An error about one connection is logged, and the next ones are taken."""
        acceptor = self.acceptor()
        take = acceptor._accepted
        outcomes = [ValueError("about this one")]

        def once(sock: socket.socket, address: Any) -> None:
            if outcomes:
                raise outcomes.pop()
            take(sock, address)

        acceptor._accepted = once
        first = self.dial()
        await until(lambda: not outcomes)
        first.settimeout(10)
        with self.assertRaises(ConnectionResetError):
            first.recv(1)
        self.dial()
        await until(lambda: self.accepted)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
