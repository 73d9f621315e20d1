"""Tests for L{relaytun.plane.carriers}."""

from __future__ import annotations

import errno
import os
import socket
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from relaytun.plane import carriers
from relaytun.plane.carriers import BufferCarrier, CarrierPool, PipeCarrier


def pair(case: SynchronousTestCase) -> tuple[socket.socket, socket.socket]:
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setblocking(False)
        case.addCleanup(sock.close)
    return near, far


class CarrierTests(SynchronousTestCase):
    def moves(self, carrier: PipeCarrier | BufferCarrier) -> None:
        source, inlet = pair(self)
        outlet, sink = pair(self)
        self.assertRaises(BlockingIOError, carrier.fill, source, 100)
        inlet.send(b"0123456789")
        self.assertEqual(carrier.fill(source, 4), 4)
        self.assertEqual(carrier.pending, 4)
        carrier.drain(outlet)
        self.assertEqual((carrier.pending, sink.recv(100)), (0, b"0123"))
        self.assertEqual(carrier.fill(source, 100), 6)
        carrier.drain(outlet)
        self.assertEqual(sink.recv(100), b"456789")
        inlet.close()
        self.assertEqual(carrier.fill(source, 100), 0)
        sink.close()

    def test_buffer(self) -> None:
        """A buffer takes no more than it is told to, and gives it on in order."""
        self.moves(BufferCarrier())

    def test_pipe(self) -> None:
        """So does a pipe."""
        carrier = PipeCarrier()
        self.addCleanup(carrier.close)
        self.moves(carrier)

    def test_full_sink(self) -> None:
        """What a full sink does not take stays pending, and nothing is lost or doubled."""
        for carrier in (BufferCarrier(), PipeCarrier()):
            source, inlet = pair(self)
            outlet, sink = pair(self)
            clogged = 0
            try:
                while True:
                    clogged += outlet.send(b"-" * 4096)
            except BlockingIOError:
                pass
            inlet.send(b"payload")
            carrier.fill(source, 100)
            carrier.drain(outlet)
            self.assertEqual(carrier.pending, 7)
            while clogged:
                clogged -= len(sink.recv(min(clogged, 65536)))
            carrier.drain(outlet)
            self.assertEqual((carrier.pending, sink.recv(100)), (0, b"payload"))
            if isinstance(carrier, PipeCarrier):
                carrier.close()


class PoolTests(SynchronousTestCase):
    def test_reuse(self) -> None:
        """A carrier that comes back is lent again."""
        pool = CarrierPool()
        self.addCleanup(pool.close)
        carrier = pool.take()
        self.assertIsInstance(carrier, PipeCarrier)
        pool.give_back(carrier)
        self.assertIs(pool.take(), carrier)
        pool.give_back(carrier)

    def test_pending_is_thrown_away(self) -> None:
        """No byte of one stream can come out of another: a carrier with a rest is not lent."""
        pool = CarrierPool()
        self.addCleanup(pool.close)
        for spliceable in (True, False):
            source, inlet = pair(self)
            carrier = pool.take(spliceable)
            inlet.send(b"secret")
            carrier.fill(source, 6)
            pool.give_back(carrier)
            again = pool.take(spliceable)
            self.assertEqual(again.pending, 0)
            if spliceable:
                self.assertIsNot(again, carrier)
            pool.give_back(again)

    def test_bounds(self) -> None:
        """No more pipes than allowed, then buffers; no more are kept than told."""
        pool = CarrierPool(pipes=2, kept=1)
        before = len(os.listdir("/proc/self/fd"))
        lent = [pool.take() for _ in range(4)]
        self.assertEqual(
            [type(carrier) for carrier in lent],
            [PipeCarrier, PipeCarrier, BufferCarrier, BufferCarrier],
        )
        self.assertEqual(pool.lent, 4)
        for carrier in lent:
            pool.give_back(carrier)
        self.assertEqual(pool.lent, 0)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + 2)
        pool.close()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_no_descriptor_left(self) -> None:
        """Without a descriptor for a pipe a buffer is lent; later there are pipes again."""
        pool = CarrierPool()
        self.addCleanup(pool.close)
        with mock.patch("os.pipe2", side_effect=OSError(errno.EMFILE, "too many")):
            carrier = pool.take()
        self.assertIsInstance(carrier, BufferCarrier)
        pool.give_back(carrier)
        again = pool.take()
        self.assertIsInstance(again, PipeCarrier)
        pool.give_back(again)

    def test_small_pipes(self) -> None:
        """Where the kernel gives small pipes only, a buffer serves, and no descriptor is lost."""
        before = len(os.listdir("/proc/self/fd"))
        with mock.patch.object(carriers, "_enlarge", return_value=8192):
            self.assertIsInstance(CarrierPool().take(), BufferCarrier)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_quota(self) -> None:
        """A user whose quota of pipe pages is used up gets the size that the pipe has."""
        with mock.patch.object(carriers, "fcntl") as fcntl:
            fcntl.fcntl.side_effect = [PermissionError(), PermissionError(), 65536]
            self.assertEqual(carriers._enlarge(0), 65536)

    def test_unspliceable(self) -> None:
        """A socket that cannot be spliced gets a buffer."""
        pool = CarrierPool()
        self.assertIsInstance(pool.take(spliceable=False), BufferCarrier)
