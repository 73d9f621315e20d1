"""Tests of L{relaytun.nat.families}: of two ways at once both sides come to the same one."""

from __future__ import annotations

import itertools
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from relaytun.nat.candidates import NoPath
from relaytun.nat.families import FirstPunch
from relaytun.nat.path import UdpPath
from relaytun.nat.punching import UdpPunch

from .network import DELAY, Address, Network, Socket

A = ("198.51.100.2", 4000), ("2001:db8:a::2", 4000)
B = ("192.0.2.2", 5000), ("2001:db8:b::2", 5000)


class FirstPunchTests(SynchronousTestCase):
    """
    @ivar delays: seconds that a packet takes, by who sends it; without an entry none passes.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.delays: dict[Address, float] = {}
        self.network.passes = self.passes
        self.addCleanup(self.nothing_is_left)

    def nothing_is_left(self) -> None:
        """No timer, no socket and no reader stays behind."""
        self.network.advance(1)
        self.assertEqual(self.network.getDelayedCalls(), [])
        self.assertEqual((self.network.sockets, self.network.readers), ({}, {}))

    def passes(self, source: Address, target: Address, data: bytes, hops: int) -> Address | None:
        delay = self.delays.get(source)
        if delay is not None and hops > 4:
            self.network.callLater(delay, self.network.deliver, source, target, data)
        return None

    def punch(self, own: tuple[Address, ...], peers: tuple[Address, ...]) -> FirstPunch:
        return FirstPunch(
            [
                UdpPunch(
                    self.network,  # type: ignore[arg-type]
                    Socket(self.network, address),  # type: ignore[arg-type]
                    bytes(32),
                    bytes([number]) * 16,
                    own is A,
                    peers,
                )
                for number, address in enumerate(own)
            ]
        )

    def both(self) -> tuple[Deferred[UdpPath], Deferred[UdpPath]]:
        done = self.punch(A, B).start(), self.punch(B, A).start()
        self.network.run(6)
        return done

    def test_same_way(self) -> None:
        """However long packets take on each way, both take the same, and the rest is gone."""
        for times in itertools.product((0.01, 0.015, 0.06), repeat=4):
            self.delays = dict(zip((*A, *B), times, strict=True))
            one, other = map(self.successResultOf, self.both())
            here, there = (path._socket.sock.address for path in (one, other))
            self.assertEqual((one.address, other.address), (there, here))
            self.assertEqual(set(self.network.sockets), {here, there})
            one.close()
            other.close()
            self.network.run(DELAY)

    def test_only_one_passes(self) -> None:
        """Where only one of the two passes, that is found."""
        for family in (0, 1):
            self.delays = {A[family]: DELAY, B[family]: DELAY}
            one, other = map(self.successResultOf, self.both())
            self.assertEqual((one.address, other.address), (B[family], A[family]))
            one.close()
            other.close()
            self.network.run(DELAY)

    def test_none(self) -> None:
        """Where none passes the first one tells why."""
        punch = self.punch(A, B)
        self.network.sockets[A[1]].broken = True
        done = punch.start()
        self.network.run(6)
        error = self.failureResultOf(done, NoPath)
        self.assertEqual(str(error.value), "no packet of the peer arrived")

    def test_given_up(self) -> None:
        """It may be given up at any time, in either way, and before it has begun."""
        ends: list[Any] = [lambda punch, done: done.cancel(), lambda punch, done: punch.stop()]
        for end in ends:
            punch = self.punch(A, B)
            done = punch.start()
            self.network.run(0.3)
            end(punch, done)
            self.failureResultOf(done, CancelledError)
        self.punch(A, B).stop()

    def test_stopped_late(self) -> None:
        """Stopping it when a path is found does the path no harm."""
        self.delays = dict.fromkeys((*A, *B), DELAY)
        punch = self.punch(A, B)
        one, other = punch.start(), self.punch(B, A).start()
        self.network.run(1)
        punch.stop()
        path = self.successResultOf(one)
        self.assertTrue(path.send(b"\x40"))
        path.close()
        self.successResultOf(other).close()
