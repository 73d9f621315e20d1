"""Tests of L{relaytun.nat.tcpopen}."""

from __future__ import annotations

import errno
import socket
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relaytun.nat.candidates import NoPath
from relaytun.nat.tcpopen import MOST_CONNECTIONS, TcpOpen, share_port

Address = tuple[str, int]


class LoopbackTests(TestCase):
    timeout = 20

    def address(self) -> Address:
        """A port that is ours, as that of a connection to the server is."""
        sock = socket.socket()
        self.addCleanup(sock.close)
        share_port(sock)
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()  # type: ignore[no-any-return]

    def open(
        self, own: Address, peers: list[Address], **options: Any
    ) -> tuple[TcpOpen, list[socket.socket], Deferred[None]]:
        """@return: the attempt, what it hands on, and that it has handed on something."""
        handed_on: list[socket.socket] = []
        some: Deferred[None] = Deferred()

        def connected(sock: socket.socket) -> None:
            self.addCleanup(sock.close)
            handed_on.append(sock)
            if not some.called:
                some.callback(None)

        real: Any = reactor
        opening = TcpOpen(real, own, peers, connected, loopback=True, **options)
        self.addCleanup(opening.stop)
        return opening, handed_on, some

    async def test_meet(self) -> None:
        """Two that start together have a connection with each other."""
        a, b = self.address(), self.address()
        one, ones, some = self.open(a, [b])
        other, others, some_too = self.open(b, [a])
        done = [one.start(), other.start()]
        await some
        await some_too
        self.assertEqual((ones[0].getsockname(), ones[0].getpeername()), (a, b))
        self.assertEqual((others[0].getsockname(), others[0].getpeername()), (b, a))
        self.assertEqual(ones[0].gettimeout(), 0)
        for opening, socks in ((one, ones), (other, others)):
            opening.stop(socks[0])
        for each in done:
            await each
        ones[0].sendall(b"?")
        others[0].settimeout(10)
        self.assertEqual(others[0].recv(9), b"?")

    async def test_again(self) -> None:
        """An address that refuses is tried again."""
        a, b = self.address(), self.address()
        one, _, some = self.open(a, [b])
        one.start()
        other, others, some_too = self.open(b, [])
        real: Any = reactor
        real.callLater(0.05, other.start)
        await some
        await some_too
        self.assertEqual(others[0].getpeername(), a)

    async def test_itself(self) -> None:
        """An attempt that connects to itself notices."""
        a = self.address()
        one, handed_on, _ = self.open(a, [a], timeout=0.3)
        await self.assertFailure(one.start(), NoPath)
        self.assertEqual(handed_on, [])

    async def test_winner(self) -> None:
        """All connections but the winner are shut down, and whoever reads them sees that."""
        a = self.address()
        one, handed_on, some = self.open(a, [])
        one.start()
        strangers = [socket.create_connection(a) for _ in range(2)]
        for stranger in strangers:
            self.addCleanup(stranger.close)
            stranger.settimeout(10)
        await some
        while len(handed_on) < 2:
            real: Any = reactor
            turn: Deferred[None] = Deferred()
            real.callLater(0, turn.callback, None)
            await turn
        winner = next(s for s in handed_on if s.getpeername() == strangers[0].getsockname())
        one.stop(winner)
        one.stop(winner)
        self.assertEqual(strangers[1].recv(1), b"")
        winner.send(b"!")
        self.assertEqual(strangers[0].recv(1), b"!")
        self.assertRaises(OSError, socket.create_connection, a)

    async def test_cancelled(self) -> None:
        """A cancelled attempt is over."""
        a, b = self.address(), self.address()
        one, _, _ = self.open(a, [b])
        done = one.start()
        done.cancel()
        await done
        self.assertRaises(OSError, socket.create_connection, a)

    async def test_ipv6(self) -> None:
        """It works over IPv6 as well."""
        socks = [socket.socket(socket.AF_INET6) for _ in range(2)]
        for sock in socks:
            self.addCleanup(sock.close)
            share_port(sock)
            sock.bind(("::1", 0))
        a, b = (sock.getsockname()[:2] for sock in socks)
        one, _, some = self.open(a, [b])
        other, _, some_too = self.open(b, [a])
        one.start()
        other.start()
        await some
        await some_too


class FakeReactor(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.addReader = mock.Mock()
        self.removeReader = mock.Mock()
        self.addWriter = mock.Mock()
        self.removeWriter = mock.Mock()


class FakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock: Any = FakeReactor()
        self.handed_on: list[Any] = []
        self.made: list[Any] = []

    def sock(self, code: int = errno.EINPROGRESS) -> Any:
        sock = mock.Mock()
        sock.connect_ex.return_value = code
        sock.getsockname.return_value = ("10.0.0.1", 1)
        sock.getpeername.return_value = ("10.0.0.2", 2)
        sock.getsockopt.return_value = 0
        sock.fileno.return_value = 5
        return sock

    def open(self, make: Any) -> TcpOpen:
        def made(family: int) -> Any:
            self.made.append(make())
            return self.made[-1]

        return TcpOpen(
            self.clock,
            ("10.0.0.1", 1),
            [("10.0.0.2", 2), ("127.0.0.1", 3)],
            self.handed_on.append,
            make_socket=made,
        )

    def test_rate(self) -> None:
        """A refused address is tried ten times a second for 5 s; then all is over."""
        done = self.open(lambda: self.sock(errno.ECONNREFUSED)).start()
        for _ in range(600):
            self.clock.advance(0.01)
        self.failureResultOf(done, NoPath)
        # One of them listens.
        self.assertLessEqual(abs(len(self.made) - 49), 10)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for sock in self.made[1:]:
            sock.close.assert_called()
            sock.setsockopt.assert_any_call(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt.assert_any_call(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind.assert_called_with(("10.0.0.1", 1))

    def test_never_few_hops(self) -> None:
        """No SYN has another hop limit than usual."""
        done = self.open(self.sock).start()
        for sock in self.made:
            levels = {call.args[0] for call in sock.setsockopt.call_args_list}
            self.assertEqual(levels, {socket.SOL_SOCKET})
        done.cancel()

    def test_pending(self) -> None:
        """A connection that gets no answer is left to the kernel, and closed in the end."""
        done = self.open(self.sock).start()
        (attempt,) = [call.args[0] for call in self.clock.addWriter.call_args_list]
        sock = self.made[1]
        sock.getpeername.side_effect = OSError
        attempt.doWrite()
        attempt.doRead()
        self.assertEqual((attempt.fileno(), attempt.logPrefix()), (5, "simultaneous open"))
        self.clock.advance(5)
        self.failureResultOf(done, NoPath)
        sock.close.assert_called()

    def test_connected(self) -> None:
        """With a connection there is no time limit but the caller's."""
        done = self.open(self.sock).start()
        (attempt,) = [call.args[0] for call in self.clock.addWriter.call_args_list]
        attempt.doWrite()
        self.assertEqual(self.handed_on, [self.made[1]])
        self.clock.advance(6)
        self.assertNoResult(done)
        done.cancel()
        self.made[1].shutdown.assert_called_once()
        self.successResultOf(done)

    def test_lost(self) -> None:
        """A connection that fails is tried again."""
        done = self.open(self.sock).start()
        (attempt,) = [call.args[0] for call in self.clock.addWriter.call_args_list]
        attempt.connectionLost(Failure(Exception()))
        self.clock.advance(0.15)
        self.assertEqual(len(self.made), 3)
        self.made[2].getsockopt.return_value = errno.ECONNRESET
        self.clock.addWriter.call_args.args[0].doWrite()
        self.clock.advance(0.15)
        self.assertEqual(len(self.made), 4)
        done.cancel()

    def test_no_socket(self) -> None:
        """Without a socket, or with the port of another, nothing is tried."""
        for method in ("bind", "listen"):
            sock = self.sock(0)
            getattr(sock, method).side_effect = OSError
            done = self.open(lambda sock=sock: sock).start()
            done.cancel()
            sock.close.assert_called()
        self.assertEqual(len(self.handed_on), 1)

    def test_bounded(self) -> None:
        """Strangers cannot have more than some connections handed on."""
        opening = self.open(self.sock)
        done = opening.start()
        (listening,) = [call.args[0] for call in self.clock.addReader.call_args_list]
        accepted = [self.sock() for _ in range(20)]
        self.made[0].accept.side_effect = [*((sock, None) for sock in accepted), OSError]
        for _ in range(21):
            listening.doRead()
        listening.doWrite()
        self.assertEqual(self.handed_on, accepted[:MOST_CONNECTIONS])
        accepted[-1].close.assert_called_once()
        self.assertEqual((listening.fileno(), listening.logPrefix()), (5, "simultaneous open"))
        listening.connectionLost(Failure(Exception()))
        self.made[0].close.assert_called_once()
        accepted[0].shutdown.side_effect = OSError
        opening.stop()
        self.successResultOf(done)
