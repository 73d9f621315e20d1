"""Tests of L{relaytun.plane.rates}, alone and in a L{Splice} whose time is told by a clock."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from hypothesis import given, settings, strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.plane.carriers import CarrierPool
from relaytun.plane.meter import Meter
from relaytun.plane.rates import LEAST_BURST, Rate, Turn
from relaytun.plane.splice import Splice
from relaytun.wire.moods import Mood

MB = 1024 * 1024


class RateTests(SynchronousTestCase):
    """The bucket and its queue."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.served: list[str] = []

    def rate(self, bytes_per_second: int) -> Rate:
        """A rate by the clock of the test."""
        return Rate(self.clock, bytes_per_second)

    def test_burst(self) -> None:
        """A quarter of a second's bytes may pass at once, and never less than 64 KiB."""
        self.assertEqual(self.rate(8 * MB).room(), 2 * MB)
        self.assertEqual(self.rate(1000).room(), LEAST_BURST)

    def test_refill(self) -> None:
        """What passed comes back with time, and no more than the burst."""
        rate = self.rate(MB)
        rate.take(rate.room())
        self.assertEqual(rate.room(), 0)
        self.clock.advance(0.125)
        self.assertEqual(rate.room(), MB // 8)
        self.clock.advance(1000)
        self.assertEqual(rate.room(), MB // 4)

    def test_no_crumbs(self) -> None:
        """Less than a portion is nothing: reading it would cost more than it is worth."""
        rate = self.rate(MB)
        rate.take(rate.room() - rate.portion + 1)
        self.assertEqual(rate.room(), 0)

    def test_queue(self) -> None:
        """Each gets a portion in its turn; nobody overtakes the queue, and no timer stays."""
        rate = self.rate(MB)
        rate.take(rate.room())
        waits = {name: lambda name=name: self.served.append(name) for name in "abc"}
        for wait in waits.values():
            rate.wait(wait)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        rate.forget(waits["b"])
        self.clock.advance(0.0101)
        self.assertEqual((self.served, rate.room()), (["a"], 0))
        self.clock.advance(0.0101)
        self.assertEqual(self.served, ["a", "c"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_forgotten(self) -> None:
        """When the last one leaves the queue, its timer goes."""
        rate = self.rate(MB)
        wait = self.served.clear
        rate.wait(wait)
        rate.forget(wait)
        rate.forget(wait)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_change(self) -> None:
        """Another rate holds at once, also for those in the queue."""
        rate = self.rate(1000)
        rate.take(rate.level + 20_000)
        rate.wait(lambda: self.served.append("a"))
        rate.change(100 * MB)
        self.clock.advance(0.02)
        self.assertEqual(self.served, ["a"])
        rate.change(1000)
        self.assertLessEqual(rate.level, LEAST_BURST)

    def test_clock_set_back(self) -> None:
        """A clock that is set back takes nothing away."""
        rate = self.rate(MB)
        self.clock.rightNow = -5.0
        self.assertEqual(rate.room(), MB // 4)

    @given(st.integers(1, 10**10), st.integers(1, 6))
    @settings(max_examples=60)
    def test_accuracy(self, bytes_per_second: int, streams: int) -> None:
        """Whoever takes as much as it gets gets the rate, and each of several the same."""
        clock = Clock()
        rate = Rate(clock, bytes_per_second)
        rate.take(rate.level)
        got = [0] * streams

        def greedy(number: int) -> None:
            def ready(count: int) -> None:
                got[number] += count
                Turn([rate], ready)

            Turn([rate], ready)

        for number in range(streams):
            greedy(number)
        rounds = 300
        for _ in range(rounds):
            clock.advance(rate.portion / bytes_per_second)
        expected = rounds * rate.portion
        self.assertLessEqual(sum(got), expected + rate.portion)
        self.assertGreaterEqual(sum(got), 0.97 * expected - 2 * rate.portion)
        self.assertLessEqual(max(got) - min(got), 2 * rate.portion)


class TurnTests(SynchronousTestCase):
    """Waits for several rates."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.slow, self.fast = Rate(self.clock, MB), Rate(self.clock, 10 * MB)
        for rate in (self.slow, self.fast):
            rate.take(rate.level)
        self.portions: list[int] = []

    def test_least(self) -> None:
        """One gets what the slowest has; no rate loses more than that."""
        Turn([self.fast, self.slow], self.portions.append)
        self.clock.pump([0.005] * 4)
        (portion,) = self.portions
        self.assertEqual(portion, int(MB * 0.015))
        self.assertEqual(self.fast.level, int(10 * MB * 0.02) - portion)

    def test_cancel(self) -> None:
        """What was taken for one that is not wanted any more is given back; no timer stays."""
        self.slow.take(MB)
        turn = Turn([self.fast, self.slow], self.portions.append)
        self.clock.advance(0.0101)
        turn.cancel()
        turn.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.fast.level, int(10 * MB * 0.0101))
        self.assertEqual(self.portions, [])


class SpliceTests(SynchronousTestCase):
    """Splices that keep to rates, under a reactor that turns when the test says so."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.pool = CarrierPool()
        self.addCleanup(self.pool.close)
        self.moods: list[Mood] = []

    def stream(self, meter: Meter) -> tuple[socket.socket, socket.socket, Splice]:
        """The far ends of a splice."""
        left, inner_left = socket.socketpair()
        right, inner_right = socket.socketpair()
        for sock in (left, right, inner_left, inner_right):
            sock.setblocking(False)
        self.addCleanup(left.close)
        self.addCleanup(right.close)

        def ended(splice: Splice, mood: Mood) -> None:
            self.moods.append(mood)

        splice = Splice(self.reactor, self.pool, inner_left, inner_right, meter, ended)
        self.addCleanup(splice.cut, Mood.SHUTDOWN)
        return left, right, splice

    def turn(self) -> None:
        """What a reactor does in one turn, told of everything each time."""
        for reader in self.reactor.getReaders():
            reader.doRead()
        for writer in self.reactor.getWriters():
            writer.doWrite()

    def bulk(self, *ends: tuple[socket.socket, socket.socket], seconds: float) -> list[int]:
        """Move as much as goes from the first to the second; how much that was of each."""
        counts = [0] * len(ends)
        for _ in range(round(seconds / 0.005)):
            for _ in range(8):
                for number, (source, sink) in enumerate(ends):
                    with contextlib.suppress(BlockingIOError):
                        source.send(bytes(65536))
                    self.turn()
                    with contextlib.suppress(BlockingIOError):
                        counts[number] += len(sink.recv(1 << 20))
            self.reactor.advance(0.005)
        return counts

    def test_accuracy(self) -> None:
        """2 MB/s are 2 MB/s, within 3 percent over seconds; the other way is free."""
        meter = Meter()
        meter.forward_rates = (Rate(self.reactor, 2 * MB),)
        left, right, _ = self.stream(meter)
        self.bulk((left, right), seconds=0.5)
        (count,) = self.bulk((left, right), seconds=3)
        self.assertLess(abs(count - 6 * MB), 0.03 * 6 * MB)
        (count,) = self.bulk((right, left), seconds=0.1)
        self.assertGreater(count, 2 * MB)

    def test_shared(self) -> None:
        """Streams that share a rate have the same share; one with a rate of its own, the less."""
        shared = Rate(self.reactor, 2 * MB)
        ends = []
        for number in range(3):
            meter = Meter()
            meter.forward_rates = (shared, Rate(self.reactor, MB // 5)) if number else (shared,)
            ends.append(self.stream(meter)[:2])
        self.bulk(*ends, seconds=1)
        fast, *slow = self.bulk(*ends, seconds=3)
        for count in slow:
            self.assertLess(abs(count - 0.6 * MB), 0.05 * 0.6 * MB)
        self.assertLess(abs(fast - 4.8 * MB), 0.05 * 4.8 * MB)

    def test_keystrokes(self) -> None:
        """A byte beside bulk transfers passes within a portion of each of them."""
        shared = Rate(self.reactor, 2 * MB)
        meters = [Meter() for _ in range(3)]
        for meter in meters:
            meter.forward_rates = (shared,)
        *bulk, small = (self.stream(meter)[:2] for meter in meters)
        self.bulk(*bulk, seconds=1)
        for _ in range(20):
            small[0].send(b"k")
            self.bulk(*bulk, seconds=0.04)
            self.assertEqual(small[1].recv(10), b"k")

    def test_end_while_waiting(self) -> None:
        """A stream that is cut in the queue leaves nothing there, nor a timer."""
        meter = Meter()
        rate = Rate(self.reactor, MB)
        meter.forward_rates = (rate,)
        left, right, splice = self.stream(meter)
        self.bulk((left, right), seconds=0.5)
        self.turn()
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        splice.cut(Mood.SHUTDOWN)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.getReaders(), [])

    def test_all_arrives(self) -> None:
        """The end of a stream comes after its last byte, and costs the rate nothing."""
        meter = Meter()
        rate = Rate(self.reactor, MB)
        meter.forward_rates = (rate,)
        left, right, _ = self.stream(meter)
        rate.take(rate.level)
        left.send(b"last words")
        left.shutdown(socket.SHUT_WR)
        self.turn()
        self.assertRaises(BlockingIOError, right.recv, 100)
        for _ in range(4):
            self.reactor.advance(0.01)
            self.turn()
        self.assertEqual((right.recv(100), right.recv(100)), (b"last words", b""))
        right.close()
        self.turn()
        self.assertEqual(self.moods, [Mood.HAPPY])

    def test_limit_in_the_queue(self) -> None:
        """What another stream has used up while one waited is not there for it."""
        meter = Meter(100)
        rate = Rate(self.reactor, MB)
        meter.forward_rates = (rate,)
        left, right, _ = self.stream(meter)
        rate.take(rate.level)
        left.send(bytes(50))
        self.turn()
        meter.backward = 80
        self.reactor.advance(0.02)
        self.assertEqual((len(right.recv(100)), meter.total), (20, 100))
        self.assertEqual(rate.level, int(MB * 0.02) - 20)

    def test_no_limit_left_in_the_queue(self) -> None:
        """Nothing passes if nothing is left."""
        meter = Meter(100)
        rate = Rate(self.reactor, MB)
        meter.forward_rates = (rate,)
        left, right, _ = self.stream(meter)
        rate.take(rate.level)
        left.send(bytes(50))
        self.turn()
        meter.backward = 100
        self.reactor.advance(0.02)
        self.assertRaises(BlockingIOError, right.recv, 100)
        self.assertEqual(rate.level, int(MB * 0.02))
