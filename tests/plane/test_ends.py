"""Tests of L{relaytun.plane.ends}: real sockets, and a reactor that the test plays."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relaytun.plane.accept import close_in_order, prepare, reset
from relaytun.plane.ends import SocketEnd
from relaytun.plane.pair import pair
from relaytun.wire.frames import HEADER_SIZE, Reset

from ..polling import select
from .test_splice import tcp_pair

SCRATCH = 64 * 1024


class Reactor:
    """Knows who wants to read and to write."""

    def __init__(self) -> None:
        self.readers: set[object] = set()
        self.writers: set[object] = set()
        self.addReader = self.readers.add
        self.removeReader = self.readers.discard
        self.addWriter = self.writers.add
        self.removeWriter = self.writers.discard
        self.later: list[Callable[[], None]] = []

    def callLater(self, seconds: float, act: Callable[[], None]) -> None:
        """In the next turn."""
        assert not seconds
        self.later.append(act)


class Carried:
    """
    A stream.

    @ivar credit: how much it takes.
    @ivar forgotten: it is over, and its end hears nothing more of it.
    """

    def __init__(self) -> None:
        self.scratch = memoryview(bytearray(HEADER_SIZE + SCRATCH))
        self.credit = SCRATCH
        self.sent = bytearray()
        self.ended = False
        self.causes: list[Reset] = []
        self.taken = 0
        self.forgotten = False
        self.end: SocketEnd

    def allowance(self) -> int:
        """See L{relaytun.plane.ends.Carried}."""
        return self.credit

    def send(self, size: int) -> None:
        """See L{relaytun.plane.ends.Carried}."""
        assert 0 < size <= self.credit
        self.sent += self.scratch[HEADER_SIZE : HEADER_SIZE + size]

    def finish(self) -> None:
        """See L{relaytun.plane.ends.Carried}."""
        assert not self.ended
        self.ended = True

    def reset(self, cause: Reset) -> None:
        """See L{relaytun.plane.ends.Carried}."""
        self.causes.append(cause)
        if not self.forgotten:
            self.end.reset()

    def took(self, size: int) -> None:
        """See L{relaytun.plane.ends.Carried}."""
        self.taken += size


class SocketEndTests(SynchronousTestCase):
    """A program, the socket that it is connected to, and its stream."""

    def setUp(self) -> None:
        self.program, self.inner = tcp_pair()
        self.addCleanup(self.program.close)
        self.addCleanup(self.inner.close)
        prepare(self.inner)
        self.program.settimeout(10)
        self.reactor = Reactor()
        self.stream = Carried()
        self.end = SocketEnd(self.reactor, self.inner, self.stream, self.stream)  # type: ignore[arg-type]
        self.stream.end = self.end

    def read(self) -> None:
        """The reactor finds something to read, if anybody wants it."""
        if self.end in self.reactor.readers:
            self.wait_for(self.inner)
            self.end.doRead()

    def wait_for(self, sock: socket.socket) -> None:
        """Until something has come."""
        assert select([sock], timeout=10)[0]

    def fill(self) -> int:
        """Deliver until the program's socket takes no more; how much that was."""
        begin = self.stream.taken
        delivered = 0
        while self.end not in self.reactor.writers:
            self.end.deliver(memoryview(b"x" * 65536))
            delivered += 65536
        self.assertLess(self.stream.taken - begin, delivered)
        return delivered

    def drain(self, size: int) -> bytes:
        """The program reads so much, and the reactor writes what it can."""
        got = bytearray()
        while len(got) < size:
            self.program.setblocking(False)
            try:
                got += self.program.recv(min(65536, size - len(got)))
            except BlockingIOError:
                if self.end in self.reactor.writers:
                    self.end.doWrite()
            self.program.settimeout(10)
        return bytes(got)

    def assert_broken(self) -> None:
        """The program sees an error, and nobody waits for the socket."""
        with self.assertRaises(OSError) as caught:
            while self.program.recv(65536):
                pass
        self.assertEqual(caught.exception.errno, errno.ECONNRESET)
        self.assert_over()

    def assert_over(self) -> None:
        """The socket is closed and forgotten."""
        self.assertEqual(self.inner.fileno(), -1)
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))

    def test_there(self) -> None:
        """What the program writes goes to the stream, behind room for a header."""
        self.program.sendall(b"hello")
        self.end.read_on()
        self.read()
        self.assertEqual(self.stream.sent, b"hello")
        self.assertIn(self.end, self.reactor.readers)

    def test_read_now(self) -> None:
        """A program that has spoken already is heard without the reactor."""
        self.program.sendall(b"hello")
        self.wait_for(self.inner)
        self.end.read_now()
        self.assertEqual(self.stream.sent, b"hello")

    def test_nothing_yet(self) -> None:
        """A program that says nothing changes nothing."""
        self.end.read_now()
        self.assertEqual((self.stream.sent, self.stream.ended), (b"", False))

    def test_no_allowance(self) -> None:
        """While the stream takes nothing the program is not read; when it does, it is."""
        self.stream.credit = 0
        self.program.sendall(b"hello")
        self.end.read_on()
        self.read()
        self.assertEqual((self.stream.sent, self.reactor.readers), (b"", set()))
        self.end.doRead()
        self.stream.credit = 3
        self.end.read_on()
        self.end.read_on()
        while len(self.stream.sent) < 5:
            self.read()
        self.assertEqual(self.stream.sent, b"hello")

    def test_not_for_ever(self) -> None:
        """A program that writes and writes leaves the reactor to others now and then."""
        self.stream.credit = 1000
        self.program.sendall(b"x" * 50_000)
        self.end.read_on()
        self.read()
        self.assertLess(len(self.stream.sent), 5000)

    def test_and_back(self) -> None:
        """What is delivered the program gets, and it counts as taken when its socket has it."""
        self.end.deliver(memoryview(b"hello"))
        self.assertEqual(self.program.recv(100), b"hello")
        self.assertEqual(self.stream.taken, 5)
        self.assertEqual(self.reactor.writers, set())

    def test_slow_program(self) -> None:
        """What a slow program does not take is held, copied, and given to it in order."""
        size = self.fill()
        held = size - self.stream.taken
        for number in range(10):
            buffer = bytearray(bytes([number]) * 1000)
            self.end.deliver(memoryview(buffer))
            buffer[:] = b"!" * 1000
        self.assertEqual(self.stream.taken, size - held)
        got = self.drain(size + 10_000)
        self.assertTrue(got[:size] == b"x" * size)
        self.assertTrue(got[size:] == b"".join(bytes([number]) * 1000 for number in range(10)))
        self.assertEqual(self.stream.taken, size + 10_000)
        self.assertEqual(self.reactor.writers, set())

    def test_half_close_there(self) -> None:
        """The program's last byte ends its direction alone."""
        self.program.sendall(b"hello")
        self.program.shutdown(socket.SHUT_WR)
        self.end.read_on()
        self.read()
        self.read()
        self.assertEqual((self.stream.sent, self.stream.ended), (b"hello", True))
        self.assertEqual(self.reactor.readers, set())
        self.end.read_on()
        self.assertEqual(self.reactor.readers, set())
        self.end.deliver(memoryview(b"answer"))
        self.assertEqual(self.program.recv(100), b"answer")
        self.end.finish()
        self.assertEqual(self.program.recv(100), b"")
        self.assert_over()

    def test_half_close_back(self) -> None:
        """The other side's end reaches the program, which can go on writing."""
        self.end.finish()
        self.assertEqual(self.program.recv(100), b"")
        self.program.sendall(b"hello")
        self.end.read_on()
        self.read()
        self.assertEqual(self.stream.sent, b"hello")
        self.program.close()
        self.read()
        self.assertTrue(self.stream.ended)
        self.assert_over()
        self.assertEqual(self.stream.causes, [])

    def test_pending_before_the_end(self) -> None:
        """A slow program gets all that is held for it, and then the end, in either order."""
        for closes_first in (False, True):
            with self.subTest(closes_first=closes_first):
                self.setUp()
                if closes_first:
                    self.program.shutdown(socket.SHUT_WR)
                    self.end.read_on()
                    self.read()
                size = self.fill()
                self.end.finish()
                if not closes_first:
                    self.program.shutdown(socket.SHUT_WR)
                    self.end.read_on()
                    self.read()
                self.assertNotEqual(self.inner.fileno(), -1)
                self.assertEqual(len(self.drain(size)), size)
                self.assertEqual(self.program.recv(1), b"")
                self.assert_over()
                self.assertEqual(self.stream.causes, [])

    def test_stream_reset(self) -> None:
        """A stream that broke breaks the program's connection, whatever is held for it."""
        self.end.read_on()
        self.fill()
        self.end.reset()
        self.assert_broken()
        self.end.reset()
        self.end.deliver(memoryview(b"too late"))
        self.end.read_on()
        self.end.doRead()
        self.end.doWrite()
        self.assertEqual(self.reactor.readers, set())

    def test_stalled_pair(self) -> None:
        """One of a pair whose other end is reset breaks the stream even if that takes nothing."""
        near, far = pair()
        reactor, stream = Reactor(), Carried()
        stream.credit = 0
        stream.end = SocketEnd(reactor, far, stream, stream)  # type: ignore[arg-type]
        stream.end.read_on()
        near.send(b"bytes that nobody reads")
        stream.end.doRead()
        reset(near)
        (broke,) = reactor.later
        broke()
        self.assertEqual(stream.causes, [Reset.PROGRAM])
        self.assertEqual((reactor.readers, far.fileno()), (set(), -1))
        broke()
        self.assertEqual(stream.causes, [Reset.PROGRAM])

    def test_program_breaks_while_read(self) -> None:
        """A program that breaks its connection resets the stream."""
        self.end.read_on()
        reset(self.program)
        self.read()
        self.assertEqual(self.stream.causes, [Reset.PROGRAM])
        self.assertFalse(self.stream.ended)
        self.assert_over()

    def test_other_half_breaks(self) -> None:
        """In a pair, too, what looks like the end of the bytes is none if the other half broke."""
        for close, causes, ended in ((reset, [Reset.PROGRAM], False), (close_in_order, [], True)):
            program, self.inner = pair()
            self.stream = Carried()
            self.end = SocketEnd(self.reactor, self.inner, self.stream, self.stream)  # type: ignore[arg-type]
            self.stream.end = self.end
            self.end.read_on()
            program.send(b"x")
            self.read()
            close(program)
            self.read()
            self.assertEqual(self.stream.sent, b"x")
            self.assertEqual((self.stream.causes, self.stream.ended), (causes, ended))
            self.end.reset()

    def test_program_breaks_while_written(self) -> None:
        """The same when it does so while bytes come for it."""
        reset(self.program)
        self.wait_for(self.inner)
        self.end.deliver(memoryview(b"hello"))
        self.assertEqual(self.stream.causes, [Reset.PROGRAM])
        self.assert_over()

    def test_program_breaks_while_slow(self) -> None:
        """The same when bytes are held for it."""
        self.fill()
        reset(self.program)
        self.wait_for(self.inner)
        self.end.doWrite()
        self.assertEqual(self.stream.causes, [Reset.PROGRAM])
        self.assert_over()

    def test_program_breaks_before_the_end(self) -> None:
        """The same when all that is left is to tell it the end."""
        reset(self.program)
        self.wait_for(self.inner)
        with contextlib.suppress(OSError):
            self.inner.send(b"x")
        self.end.finish()
        self.assertEqual(self.stream.causes, [Reset.PROGRAM])
        self.assert_over()

    def test_reactor_sees_it_break(self) -> None:
        """The same when it is the reactor that sees it; once."""
        self.end.connectionLost(Failure(ConnectionLost()))
        self.end.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.stream.causes, [Reset.PROGRAM])
        self.assert_over()

    def test_breaks_when_the_stream_is_over(self) -> None:
        """
        A program that breaks while it is given the last bytes of a stream that has ended in order
        costs no descriptor, and none of the processor's time.
        """
        for written in (True, False):
            self.setUp()
            self.program.shutdown(socket.SHUT_WR)
            self.end.read_on()
            self.read()
            self.fill()
            self.end.finish()
            self.stream.forgotten = True
            reset(self.program)
            self.wait_for(self.inner)
            if written:
                self.end.doWrite()
            else:
                self.end.connectionLost(Failure(ConnectionLost()))
            self.assert_over()

    def test_names(self) -> None:
        """The reactor knows it by its descriptor."""
        self.assertEqual(self.end.fileno(), self.inner.fileno())
        self.assertEqual(self.end.logPrefix(), "stream")
