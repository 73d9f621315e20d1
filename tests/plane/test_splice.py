"""Tests for L{relaytun.plane.splice}: real sockets under the real reactor."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from relaytun.plane.accept import prepare, reset
from relaytun.plane.carriers import CarrierPool, PipeCarrier
from relaytun.plane.meter import Meter
from relaytun.plane.pair import pair
from relaytun.plane.splice import Splice
from relaytun.wire.moods import Mood


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection; C{socketpair} knows no reset."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
    return near, far


class Harness:
    """A splice between two connections, and the far ends of both."""

    def __init__(self, case: TestCase, pool: CarrierPool, meter: Meter | None = None) -> None:
        self.left, inner_left = tcp_pair()
        self.right, inner_right = tcp_pair()
        self.inner = (inner_left, inner_right)
        for sock in self.inner:
            prepare(sock)
        for sock in (self.left, self.right):
            sock.setblocking(False)
        self.pool = pool
        self.meter = meter or Meter()
        self.moods: list[Mood] = []
        self.ended: Deferred[Mood] = Deferred()
        self.splice = Splice(
            reactor,
            pool,
            inner_left,
            inner_right,
            self.meter,
            self._ended,  # type: ignore[arg-type]
        )
        case.addCleanup(self.left.close)
        case.addCleanup(self.right.close)
        case.addCleanup(self.splice.cut, Mood.SHUTDOWN)

    def _ended(self, splice: Splice, mood: Mood) -> None:
        self.moods.append(mood)
        self.ended.callback(mood)

    async def receive(self, sock: socket.socket, count: int) -> bytes:
        """C{count} bytes, or what comes before the end."""
        parts: list[bytes] = []
        while count:
            try:
                data = sock.recv(min(count, 65536))
            except BlockingIOError:
                await turn()
                continue
            if not data:
                break
            parts.append(data)
            count -= len(data)
        return b"".join(parts)

    async def until_error(self, sock: socket.socket) -> int:
        """The errno with which C{sock} fails."""
        while True:
            try:
                if not sock.recv(65536):
                    return 0
            except BlockingIOError:
                await turn()
            except OSError as error:
                return error.errno or -1


def turn() -> Deferred[None]:
    """Let the reactor go round once."""
    return deferLater(reactor, 0)  # type: ignore[arg-type]


async def until(condition: Callable[[], Any]) -> None:
    """Let the reactor go round until C{condition} holds; trial's own timeout is the deadline."""
    while not condition():
        await turn()


def fill_up(sock: socket.socket) -> int:
    """Write until nothing more is taken; how much that was."""
    sent = 0
    while True:
        try:
            sent += sock.send(b"x" * 65536)
        except BlockingIOError:
            return sent


class PipeSplice(TestCase):
    """With pipes."""

    timeout = 30

    def pool(self) -> CarrierPool:
        pool = CarrierPool()
        self.addCleanup(pool.close)
        return pool

    async def test_both_ways(self) -> None:
        """What goes in at one end comes out at the other, both ways, and is counted."""
        it = Harness(self, self.pool())
        it.left.sendall(b"to the right")
        it.right.sendall(b"left")
        self.assertEqual(await it.receive(it.right, 12), b"to the right")
        self.assertEqual(await it.receive(it.left, 4), b"left")
        self.assertEqual((it.meter.forward, it.meter.backward, it.meter.total), (12, 4, 16))

    async def test_half_close(self) -> None:
        """The end of one direction is passed on, the other goes on, and then it is happy."""
        it = Harness(self, self.pool())
        it.left.sendall(b"question")
        it.left.shutdown(socket.SHUT_WR)
        self.assertEqual(await it.receive(it.right, 100), b"question")
        it.right.sendall(b"answer")
        self.assertEqual(await it.receive(it.left, 6), b"answer")
        self.assertEqual(it.moods, [])
        it.right.close()
        self.assertEqual(await it.receive(it.left, 1), b"")
        self.assertEqual(await it.ended, Mood.HAPPY)
        self.assertEqual([sock.fileno() for sock in it.inner], [-1, -1])

    async def test_reset_is_passed_on(self) -> None:
        """A reset at one end is a reset at the other, never a clean end."""
        it = Harness(self, self.pool())
        it.left.sendall(b"some")
        self.assertEqual(await it.receive(it.right, 4), b"some")
        reset(it.left)
        self.assertEqual(await it.ended, Mood.ERRORY)
        self.assertEqual(await it.until_error(it.right), errno.ECONNRESET)

    async def test_broken_pair(self) -> None:
        """A pair whose other end was reset is a stream that broke, whatever came before."""
        near, far = pair()
        right, inner_right = tcp_pair()
        right.setblocking(False)
        prepare(inner_right)
        self.addCleanup(right.close)
        ended: Deferred[Mood] = Deferred()
        Splice(
            reactor,  # type: ignore[arg-type]
            self.pool(),
            far,
            inner_right,
            Meter(),
            lambda splice, mood: ended.callback(mood),
        )
        near.send(b"half")
        reset(near)
        self.assertEqual(await ended, Mood.ERRORY)
        self.assertEqual(await Harness.until_error(self, right), errno.ECONNRESET)  # type: ignore[arg-type]

    async def test_stalled_broken_pair(self) -> None:
        """A pair's reset ends a stream that stands still because nobody reads it."""
        near, far = pair()
        right, inner_right = tcp_pair()
        prepare(inner_right)
        self.addCleanup(right.close)
        ended: Deferred[Mood] = Deferred()
        splice = Splice(
            reactor,  # type: ignore[arg-type]
            self.pool(),
            far,
            inner_right,
            Meter(),
            lambda splice, mood: ended.callback(mood),
        )
        while splice.left.reading:
            fill_up(near)
            await deferLater(reactor, 0)  # type: ignore[arg-type]
        reset(near)
        self.assertEqual(await ended, Mood.ERRORY)

    async def test_reader_that_is_gone(self) -> None:
        """When the one who should read is gone, the writer gets an error."""
        it = Harness(self, self.pool())
        reset(it.right)
        fill_up(it.left)
        self.assertEqual(await it.ended, Mood.ERRORY)
        self.assertIn(await it.until_error(it.left), (errno.ECONNRESET, errno.EPIPE))

    async def test_back_pressure_and_recovery(self) -> None:
        """A reader that does not read stops the writer; when it reads, it gets every byte."""
        it = Harness(self, self.pool())
        sent = 0
        quiet = 0
        while quiet < 50:
            more = fill_up(it.left)
            sent += more
            quiet = 0 if more else quiet + 1
            await turn()
        self.assertEqual(it.pool.lent, 1)
        before = it.meter.forward
        await turn()
        self.assertEqual(it.meter.forward, before)
        it.left.shutdown(socket.SHUT_WR)
        self.assertEqual(len(await it.receive(it.right, sent + 1)), sent)
        await until(lambda: it.pool.lent == 0)

    async def test_a_stalled_direction_does_not_stall_the_other(self) -> None:
        """While one direction is stuck, the other one moves."""
        it = Harness(self, self.pool())
        while fill_up(it.left):
            await turn()
        it.right.sendall(b"still here")
        self.assertEqual(await it.receive(it.left, 10), b"still here")

    async def test_idle_holds_no_carrier(self) -> None:
        """A carrier is held only while bytes are under way."""
        it = Harness(self, self.pool())
        self.assertEqual(it.pool.lent, 0)
        it.left.sendall(b"x")
        await it.receive(it.right, 1)
        self.assertEqual(it.pool.lent, 0)

    async def test_cut(self) -> None:
        """A cut ends both with an error, gives the carriers back, and counts once."""
        it = Harness(self, self.pool())
        while fill_up(it.left):
            await turn()
        it.splice.cut(Mood.TIMEOUT)
        it.splice.cut(Mood.HAPPY)
        self.assertEqual(it.moods, [Mood.TIMEOUT])
        self.assertEqual(it.pool.lent, 0)
        self.assertEqual(await it.until_error(it.left), errno.ECONNRESET)

    async def test_limit(self) -> None:
        """Exactly as many bytes pass as the limit says; only one more exhausts it."""
        exhausted: list[bool] = []
        meter = Meter(10, lambda: exhausted.append(True))
        it = Harness(self, self.pool(), meter)
        it.left.sendall(b"0123456789")
        self.assertEqual(await it.receive(it.right, 10), b"0123456789")
        self.assertEqual(exhausted, [])
        it.left.sendall(b"x")
        await until(lambda: exhausted)
        self.assertEqual(meter.total, 10)
        it.splice.cut(Mood.BYTE_LIMIT)

    async def test_end_at_the_limit_is_clean(self) -> None:
        """A stream that ends exactly at the limit ends well."""
        it = Harness(self, self.pool(), Meter(10, lambda: self.fail("exhausted")))
        it.left.sendall(b"0123456789")
        it.left.shutdown(socket.SHUT_WR)
        self.assertEqual(await it.receive(it.right, 11), b"0123456789")
        it.right.close()
        self.assertEqual(await it.ended, Mood.HAPPY)

    async def test_limit_is_shared(self) -> None:
        """Two streams with one meter have one limit, both directions together."""
        ended: list[bool] = []
        meter = Meter(10, lambda: ended.append(True))
        pool = self.pool()
        one, two = Harness(self, pool, meter), Harness(self, pool, meter)
        one.left.sendall(b"12345")
        await one.receive(one.right, 5)
        two.right.sendall(b"678901234")
        self.assertEqual(await two.receive(two.left, 5), b"67890")
        await until(lambda: ended)
        self.assertEqual(meter.total, 10)
        one.splice.cut(Mood.BYTE_LIMIT)
        two.splice.cut(Mood.BYTE_LIMIT)

    async def test_many_megabytes(self) -> None:
        """Bytes come out in their order, whatever the sizes of writes and reads."""
        it = Harness(self, self.pool())
        block = bytes(range(251)) * 41
        total, sent, got = len(block) * 800, 0, 0
        pattern = block * 3
        while got < total:
            if sent < total:
                start = sent % len(block)
                with contextlib.suppress(BlockingIOError):
                    sent += it.left.send(pattern[start : start + min(total - sent, 20011)])
            try:
                data = it.right.recv(7919)
            except BlockingIOError:
                await turn()
                continue
            start = got % len(block)
            self.assertEqual(data, pattern[start : start + len(data)])
            got += len(data)

    async def test_read_now(self) -> None:
        """What has come already is moved without waiting for the reactor."""
        it = Harness(self, self.pool())
        it.left.sendall(b"early")
        it.splice.read_now(it.splice.left)
        self.assertEqual(it.right.recv(5), b"early")
        it.splice.read_now(it.splice.right)
        it.splice.cut(Mood.SHUTDOWN)
        it.splice.read_now(it.splice.left)


class BufferSplice(PipeSplice):
    """Without pipes: the same, to the letter."""

    def pool(self) -> CarrierPool:
        return CarrierPool(splice=False)


class Unspliceable(TestCase):
    """Where the kernel refuses."""

    timeout = 30

    async def test_einval_falls_back(self) -> None:
        """A socket that cannot be spliced is served by a buffer, without losing a byte."""
        pool = CarrierPool()
        self.addCleanup(pool.close)
        refused = OSError(errno.EINVAL, "cannot splice")
        with mock.patch.object(PipeCarrier, "fill", side_effect=refused):
            it = Harness(self, pool)
            it.left.sendall(b"all of it")
            self.assertEqual(await it.receive(it.right, 9), b"all of it")
            it.right.sendall(b"and back")
            self.assertEqual(await it.receive(it.left, 8), b"and back")
        self.assertEqual(pool.lent, 0)

    async def test_other_errors_end_it(self) -> None:
        """Any other error of the source ends the stream with an error."""
        it = Harness(self, CarrierPool(splice=False))
        with mock.patch(
            "relaytun.plane.carriers.BufferCarrier.fill", side_effect=OSError(errno.EIO, "broken")
        ):
            it.left.sendall(b"x")
            self.assertEqual(await it.ended, Mood.ERRORY)
