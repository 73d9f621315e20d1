"""Tests for L{relaytun.plane.datagrams}."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest, TestCase

from relaytun.plane import datagrams
from relaytun.plane.datagrams import (
    MOST_SEGMENTS,
    DatagramSocket,
    ReceiveBuffer,
    mtu_towards,
    path_mtu,
    prepare_datagrams,
)
from relaytun.wire.datagram import LARGEST, split

from .test_splice import until


def udp(host: str = "127.0.0.1", **options: Any) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    prepare_datagrams(sock, **options)
    return sock


def taken_by_udp() -> socket.socket:
    """A UDP socket on a number that no TCP port has."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
            tcp.bind(("127.0.0.1", 0))
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                sock.bind(tcp.getsockname())
            except OSError:
                sock.close()
            else:
                return sock


class Failing:
    """A socket whose next sends fail."""

    def __init__(self, sock: socket.socket, *errors: int, batches: bool = True) -> None:
        self.errors = list(errors)
        self.calls: list[int] = []
        self._sock = sock
        self._batches = batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendmsg(self, parts: Any, marks: Any = (), *more: Any) -> int:
        self.calls.append(sum(map(len, parts)))
        if self.errors and (marks or not self._batches):
            code = self.errors.pop(0)
            raise OSError(code, os.strerror(code))
        return self._sock.sendmsg(parts, marks, *more)


class DatagramSocketTests(TestCase):
    """
    @ivar runs: what came in: bytes, size, sender.
    """

    timeout = 20

    def setUp(self) -> None:
        self.runs: list[tuple[bytes, int, Any]] = []
        self.turns = 0
        self.refusals = 0
        self.buffer = ReceiveBuffer()
        self.plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.plain.bind(("127.0.0.1", 0))
        self.plain.setblocking(False)
        self.addCleanup(self.plain.close)
        self.here = self.socket(udp())

    def socket(self, sock: Any, **more: Any) -> DatagramSocket:
        made = DatagramSocket(
            reactor,  # type: ignore[arg-type]
            sock,
            self.buffer,
            self.received,
            self.turn_over,
            self.refused,
        )
        self.addCleanup(made.close)
        return made

    def received(self, run: memoryview, size: int, sender: Any) -> None:
        self.runs.append((bytes(run), size, sender))

    def turn_over(self) -> None:
        self.turns += 1

    def refused(self) -> None:
        self.refusals += 1

    @property
    def datagrams(self) -> list[bytes]:
        return [bytes(each) for run, size, _ in self.runs for each in split(memoryview(run), size)]

    def taken(self, sock: socket.socket) -> list[bytes]:
        """What is there for a plain socket."""
        came = []
        while True:
            try:
                came.append(sock.recv(65536))
            except BlockingIOError:
                return came

    async def test_gathers(self) -> None:
        """Single datagrams of one size and sender are one run, in which the last may be shorter."""
        other = udp()
        self.addCleanup(other.close)
        sent = [bytes([n]) * 100 for n in range(5)] + [b"short"] + [b"x" * 100]
        for each in sent:
            self.plain.sendto(each, self.here.address)
        other.sendto(b"y" * 100, self.here.address)
        self.here.doRead()
        self.assertEqual(self.datagrams, [*sent, b"y" * 100])
        self.assertEqual([size for _, size, _ in self.runs], [100, 100, 100])
        self.assertEqual(self.runs[0][2], self.plain.getsockname())
        self.assertEqual(self.runs[2][2], other.getsockname())
        self.assertEqual(self.turns, 1)

    async def test_empty_and_rising(self) -> None:
        """Empty datagrams are datagrams; larger ones begin a new run."""
        sent = [b"", b"a", b"bb", b"", b"", b"cc", b"cc", b"d", b"e"]
        for each in sent:
            self.plain.sendto(each, self.here.address)
        self.here.doRead()
        self.assertEqual(self.datagrams, sent)

    async def test_any_order_of_sizes(self) -> None:
        """Whatever the sizes, each datagram comes through as it was, by C{send} and back."""
        there = self.socket(udp())
        sent = [bytes([n % 251]) * (n * n % 37) for n in range(300)]
        sent[100:100] = [b"large" * 2000, b"x" * LARGEST]
        self.assertEqual(there.send(sent, self.here.address), len(sent))
        await until(lambda: len(self.datagrams) == len(sent))
        self.assertEqual(self.datagrams, sent)

    async def test_large_batches(self) -> None:
        """A run of any length gets through, cut to what the kernel takes."""
        for size, count in ((1200, 200), (9000, 20), (30000, 3), (10, 500), (65000, 3)):
            run = b"".join(os.urandom(size) for _ in range(count)) + b"last"
            self.runs.clear()
            self.assertEqual(
                self.here.send_run(run, size, self.here.address), count + 1, (size, count)
            )
            await until(lambda: len(self.datagrams) == count + 1)  # noqa: B023
            self.assertEqual(b"".join(self.datagrams), run)
        self.assertEqual(self.here.dropped, 0)

    async def test_one_call_for_a_batch(self) -> None:
        """Where the kernel can, a batch is one call and arrives as one run."""
        if sys.platform != "linux":
            raise SkipTest("UDP_SEGMENT is Linux's")
        self.here._sock = counted = Failing(self.here._sock)  # type: ignore[assignment]
        self.here.send_run(bytes(50 * 1200), 1200, self.here.address)
        self.here.send([bytes(1000)] * 40, self.here.address)
        self.assertEqual(counted.calls, [60000, 40000])
        self.here.doRead()
        self.assertEqual(
            [(len(run), size) for run, size, _ in self.runs], [(60000, 1200), (40000, 1000)]
        )

    async def test_refused_batches(self) -> None:
        """A batch that the kernel refuses goes one by one; if it never can, so do later ones."""
        for code, remembered in (
            (errno.EINVAL, False),
            (errno.EMSGSIZE, False),
            (errno.EIO, True),
            (errno.ENOPROTOOPT, True),
        ):
            for send in ("run", "pieces"):
                sock = udp()
                made = self.socket(Failing(sock, code))
                made._segments = True
                counted: Any = made._sock
                for _ in range(2):
                    if send == "run":
                        taken = made.send_run(b"abcabcab", 3, self.plain.getsockname())
                    else:
                        taken = made.send([b"abc", b"abc", b"ab"], self.plain.getsockname())
                    self.assertEqual(taken, 3)
                    self.assertEqual(self.taken(self.plain), [b"abc", b"abc", b"ab"])
                second = counted.calls[4:]
                self.assertEqual(second == [3, 3, 2], remembered or sys.platform != "linux")
                self.assertEqual(made.dropped, 0)

    async def test_no_room(self) -> None:
        """What the kernel has no room for is dropped and counted, and nothing waits."""
        made = self.socket(Failing(udp(), errno.EAGAIN, errno.EAGAIN, batches=False))
        made._segments = True
        address = self.plain.getsockname()
        self.assertEqual(made.send_run(bytes(300), 100, address), 0)
        self.assertEqual(made.dropped, 3)
        self.assertEqual(made.send([b"x"], address), 0)
        self.assertEqual(made.dropped, 4)
        self.assertEqual(made.send([b"x"], address), 1)

    async def test_oversized(self) -> None:
        """A datagram that is too large is counted as such; the others go."""
        sent = self.here.send([b"x" * (LARGEST + 1), b"y"], self.plain.getsockname())
        self.assertEqual((sent, self.here.dropped, self.here.oversized), (1, 1, 1))

    async def test_nobody_there(self) -> None:
        """
        That nobody is there is told, and costs neither the socket nor the datagrams that come
        later.
        """
        gone = udp()
        address = gone.getsockname()
        gone.close()
        sock = udp()
        sock.connect(address)
        made = self.socket(sock)
        made.send([b"lost"])
        await until(lambda: self.refusals)
        made.send([b"lost"])
        self.assertEqual(made.send([b"lost, too"]), 1)
        made.doRead()
        self.assertGreaterEqual(self.refusals, 2)
        back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(back.close)
        back.bind(address)
        prepare_datagrams(back)
        made.send([b"found"])
        await until(lambda: self.taken(back) == [b"found"])
        back.sendto(b"answer", made.address)
        await until(lambda: self.datagrams == [b"answer"])

    async def test_bounded_turns(self) -> None:
        """One turn takes a bounded number of datagrams; the next one goes on."""
        for _ in range(datagrams.AT_ONCE + 5):
            self.plain.sendto(b"x", self.here.address)
        self.here.doRead()
        self.assertEqual(len(self.datagrams), datagrams.AT_ONCE)
        self.here.doRead()
        self.assertEqual(len(self.datagrams), datagrams.AT_ONCE + 5)

    async def test_closed_while_reading(self) -> None:
        """Whoever gets a run may close the socket; nothing is called any more."""
        for kind in ([b"aa", b"b", b"cc"], [b"", b"x"], [b"a"]):
            made = self.socket(udp())
            calls: list[bytes] = []

            def close(run: memoryview, *more: Any) -> None:
                calls.append(bytes(run))  # noqa: B023
                made.close()  # noqa: B023

            made._received = close
            for each in kind:
                self.plain.sendto(each, made.address)
            turns = self.turns
            made.doRead()
            self.assertEqual(len(calls), 1)
            self.assertEqual(self.turns, turns)
            self.assertEqual(made.fileno(), -1)
            made.close()
            made.connectionLost(mock.Mock())

    async def test_ipv6(self) -> None:
        """IPv6 is no different."""
        try:
            here, there = udp("::1", whole=True), udp("::1")
        except OSError:
            raise SkipTest("no IPv6 here") from None
        one, two = self.socket(here), self.socket(there)
        one.send_run(bytes(2500), 1000, two.address)
        await until(lambda: len(self.datagrams) == 3)
        here.connect(two.address)
        self.assertGreaterEqual(one.mtu(), 1280)

    def test_mtu(self) -> None:
        """The path's MTU is the kernel's, or 1500 where it does not tell."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            self.assertEqual(path_mtu(sock), 1500)
            sock.connect(("127.0.0.1", 9))
            self.assertGreaterEqual(path_mtu(sock), 1500)

    def test_mtu_towards(self) -> None:
        """The same for a place that nothing is connected to, of either family."""
        self.assertGreater(mtu_towards(("127.0.0.1", 9)), 1500)
        self.assertGreaterEqual(mtu_towards(("::1", 9)), 1280)
        self.assertEqual(mtu_towards(("255.255.255.255", 9)), 1500)

    def test_batches_are_full(self) -> None:
        """No call exceeds what the oldest kernels take."""
        with mock.patch.object(self.here, "_attempt", return_value=0) as attempt:
            self.here.send([b"x" * 10] * 200, ("192.0.2.1", 9))
            self.here.send([b"x" * 1200] * 200, ("192.0.2.1", 9))
            self.here.send_run(bytes(200 * 1200), 1200, ("192.0.2.1", 9))
        for call in attempt.call_args_list:
            parts = call.args[0]
            self.assertLessEqual(len(parts), MOST_SEGMENTS)
            self.assertLessEqual(sum(map(len, parts)), LARGEST)
