"""Tests of L{relaytun.nat.congestion}."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from relaytun.nat.congestion import Controller, Pacer, Phase

SIZE = 1200


@dataclass
class Packet:
    """What aioquic knows of a packet, as far as it matters."""

    packet_number: int
    sent_time: float
    sent_bytes: int = SIZE


class Way:
    """
    A sender with all to send, a bottleneck with a queue before it, and acks that come back.

    @ivar rate: bytes per second of the bottleneck.
    @ivar queue: seconds of packets that wait there, at the most.
    @ivar idle_every: if not 0, only one packet is sent in so many seconds.
    """

    def __init__(self, rate: float, rtt: float, loss: float = 0.0, queue: float = 1.0) -> None:
        self.rate = rate
        self.rtt = rtt
        self.loss = loss
        self.queue = queue
        self.idle_every = 0.0
        self.now = 0.0
        self.delivered = 0
        self.lost = 0
        self.longest = 0.0
        self.controller = Controller(max_datagram_size=SIZE)
        self.pacer = Pacer(self.controller)
        self._random = random.Random(5)
        self._numbers = itertools.count()
        self._free = 0.0
        self._coming: list[tuple[float, int, Packet, bool]] = []

    def run(self, seconds: float) -> float:
        """@return: bytes per second that arrived."""
        end = self.now + seconds
        before = self.delivered
        while self.now < end:
            wake = self._send()
            coming = self._coming[0][0] if self._coming else end
            self.now = max(min(wake, coming, end), self.now)
            self._hear()
        return (self.delivered - before) / seconds

    def _send(self) -> float:
        """@return: when to send on."""
        controller = self.controller
        while controller.bytes_in_flight + SIZE <= controller.congestion_window:
            wake = self.pacer.next_send_time(self.now)
            if wake is not None:
                return wake
            packet = Packet(next(self._numbers), self.now)
            self.pacer.update_after_send(self.now)
            controller.on_packet_sent(packet=packet)
            waits = max(self._free - self.now, 0)
            lost = self._random.random() < self.loss or waits > self.queue
            if not lost:
                self._free = max(self._free, self.now) + SIZE / self.rate
            at = max(self._free, self.now) + self.rtt
            heapq.heappush(self._coming, (at, packet.packet_number, packet, lost))
            if self.idle_every:
                controller.more_could_be_sent()
                return self.now + self.idle_every
        return 1e9

    def _hear(self) -> None:
        while self._coming and self._coming[0][0] <= self.now:
            _, _, packet, lost = heapq.heappop(self._coming)
            if lost:
                self.lost += 1
                self.controller.on_packets_lost(now=self.now, packets=[packet])
                continue
            self.delivered += SIZE
            rtt = self.now - packet.sent_time
            self.longest = max(self.longest, rtt)
            self.controller.on_packet_acked(now=self.now, packet=packet)
            self.controller.on_rtt_measurement(now=self.now, rtt=rtt)


class ControllerTests(SynchronousTestCase):
    """What a way can carry, by what it delivers."""

    def test_fills(self) -> None:
        """Of 12.5 MB/s over 80 ms, nine tenths are used after a second, lossy or not."""
        for loss in (0.0, 0.002, 0.02):
            way = Way(12.5e6, 0.08, loss)
            way.run(1.5)
            self.assertGreater(way.run(4), 0.9 * 12.5e6 * (1 - loss), loss)

    def test_no_queue(self) -> None:
        """What was queued in the beginning is drained, and a round trip stays one."""
        way = Way(5e6, 0.04)
        way.run(2)
        way.longest = 0.0
        way.run(5)
        self.assertLess(way.longest, 0.1)

    def test_short_queue(self) -> None:
        """A queue that holds less than is tried loses little, and is used."""
        way = Way(5e6, 0.04, queue=0.01)
        way.run(2)
        way.lost = 0
        self.assertGreater(way.run(5), 0.8 * 5e6)
        self.assertLess(way.lost * SIZE, 0.06 * 5 * 5e6)

    def test_slower(self) -> None:
        """A way that becomes slower is not flooded for long; one that becomes faster is used."""
        way = Way(10e6, 0.04)
        way.run(2)
        way.rate = 2e6
        way.run(3)
        way.longest = 0.0
        self.assertGreater(way.run(2), 0.9 * 2e6)
        self.assertLess(way.longest, 0.15)
        way.rate = 10e6
        way.run(5)
        self.assertGreater(way.run(2), 0.8 * 10e6)

    def test_longer(self) -> None:
        """A way that becomes longer is measured anew, and used again."""
        way = Way(10e6, 0.02)
        way.run(2)
        way.rtt = 0.1
        way.run(13)
        self.assertGreater(way.run(3), 0.8 * 10e6)

    def test_little_to_send(self) -> None:
        """That there was little to send is no reason to think that the way is slow."""
        way = Way(10e6, 0.04)
        way.run(2)
        known = way.controller.bandwidth
        way.idle_every = 0.05
        way.run(3)
        self.assertGreater(way.controller.bandwidth, 0.9 * known)
        way.idle_every = 0.0
        self.assertGreater(way.run(1), 0.8 * 10e6)

    def test_persistent(self) -> None:
        """When nothing arrives for long it begins anew, with little in flight, and comes back."""
        way = Way(10e6, 0.04)
        way.run(2)
        way.controller.on_persistent_congestion()
        self.assertIs(way.controller.phase, Phase.STARTUP)
        self.assertLess(way.controller.congestion_window, 10 * SIZE)
        way.run(2)
        self.assertGreater(way.run(2), 0.9 * 10e6)

    def test_nothing_in_flight(self) -> None:
        """What is given up is in flight no more, and is remembered no more."""
        controller = Controller(max_datagram_size=SIZE)
        packets = [Packet(number, 0.0) for number in range(9)]
        for packet in packets:
            controller.on_packet_sent(packet=packet)
        self.assertEqual(controller.bytes_in_flight, 9 * SIZE)
        controller.on_packets_expired(packets=packets[:3])
        controller.on_packets_lost(now=1.0, packets=packets[3:6])
        for packet in packets[6:]:
            controller.on_packet_acked(now=1.0, packet=packet)
        self.assertEqual(controller.bytes_in_flight, 0)
        self.assertEqual(controller._sent, {})

    def test_acks_do_not_delay_data(self) -> None:
        """Acks that are not paced never make data wait for more than what is paced."""
        controller = Controller(max_datagram_size=SIZE)
        controller.pacing_rate = 12000.0
        pacer = Pacer(controller)
        for _ in range(1000):
            pacer.update_after_send(1.0)
        self.assertLess(pacer.next_send_time(1.0) or 0, 2.0)
