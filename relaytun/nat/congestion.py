"""
How fast QUIC sends: by what arrives, not by what is lost.

Reno and cubic take each lost packet for a full queue and halve; over 80 ms with a loss of 0.2 %
they carry 0.2-0.6 MB/s.  This is a small relative of BBR
(draft-cardwell-iccrg-bbr-congestion-control-00, with a bound of version 2 for queues that are
short): it measures how fast bytes are delivered and how long the way takes when no queue stands in
it, sends at that rate, and keeps in flight what the way holds.  It knows aioquic by the shape of
its congestion controls alone, so it needs no library.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

#: Packets in flight before anything is known (RFC 9002 has 10), and at the least.
_INITIAL_PACKETS = 16
_LEAST_PACKETS = 4
#: 2/ln 2: the least that lets the rate double in each round trip.
_FAST = 2.885
#: Of what the way holds: room for acks that are late or come in lumps.
_HEADROOM = 2.0
#: Seconds for which a process may not get to look at its packets: so much of a longer round trip,
#: at the least and at the most, is taken for that and not for a queue of the way.
_LUMP = 0.005
_LONG_LUMP = 0.025
#: The rate in the phases of one cycle, each as long as a round trip.
_CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
#: What a measured rate counts for: so many of the shortest round trips, but seconds at the least.
#: (Counted in round trips as they are, a queue would make itself last.)
_ROUNDS = 10
_RATE_AGE = 0.5
#: A start is over when the rate did not grow by a quarter in three round trips.
_GROWTH = 1.25
_STUCK = 3
#: Seconds after which the shortest round trip has to be measured anew, and for how long.
_RTT_AGE = 5.0
_RTT_PROBE = 0.2
#: A way that is so much longer than it was is another one.
_OTHER_WAY = 1.5
#: Share of lost packets in a round trip that means a full queue, not a bad wire.
_TOO_LOSSY = 0.05
#: What a queue that overflowed is given of what was in flight, and back in each good round trip.
_BACK_OFF = 0.85
_RECOVER = 1.1
#: Seconds of packets that leave at once, or so many packets, and seconds that may be caught up on
#: by a timer that was late.
_BURST = 0.002
_BURST_PACKETS = 8
_LATE = 0.01


class Packet(Protocol):
    """What is looked at of a sent packet."""

    packet_number: int
    sent_bytes: int
    sent_time: float | None


class Phase(enum.Enum):
    """What is being found out."""

    STARTUP = "how fast it can be"
    DRAIN = "emptying the queue that this made"
    CRUISE = "whether it can be faster now"
    RTT = "how long the way is without a queue"


class Controller:
    """
    One connection's rate and window.

    @ivar bytes_in_flight: sent, and neither acked nor given up.
    @ivar congestion_window: what that may be.
    @ivar pacing_rate: bytes per second; C{None} as long as nothing is known.
    @ivar phase: what is being found out.
    """

    ssthresh: int | None = None

    def __init__(self, *, max_datagram_size: int) -> None:
        self.datagram_size = max_datagram_size
        self.bytes_in_flight = 0
        self.congestion_window = _INITIAL_PACKETS * max_datagram_size
        self.pacing_rate: float | None = None
        self._min_rtt = math.inf
        self._min_rtt_at = 0.0
        self._old_rtt = math.inf
        self._usual_rtt = 0.0
        self._delivered = 0
        self._delivered_at = 0.0
        self._first_sent_at = 0.0
        #: Until so much is delivered, there was less to send than could have been.
        self._idle_until = 0
        #: For each packet: what was delivered when it was sent, when that was, when the first of
        #: those between was sent, and whether there was nothing more to send.
        self._sent: dict[int, tuple[int, float, float, bool]] = {}
        self._last: tuple[tuple[int, float, float, bool], float] | None = None
        self._acked = 0
        self._round_end = 0
        self._round_delivered = 0
        self._round_lost = 0
        self._ceiling = math.inf
        self._bandwidth = 0.0
        self._start_over()

    @property
    def bandwidth(self) -> float:
        """Bytes per second that the way was seen to deliver, 0 if nothing is known."""
        return self._bandwidth

    def more_could_be_sent(self) -> None:
        """
        There was nothing more to send, though there is room: what is measured until all of this
        has arrived says nothing about the way.
        """
        self._idle_until = self._delivered + max(self.bytes_in_flight, 1)

    # For aioquic.

    def on_packet_sent(self, *, packet: Packet) -> None:
        now = packet.sent_time or 0.0
        if not self.bytes_in_flight:
            self._first_sent_at = self._delivered_at = now
        self.bytes_in_flight += packet.sent_bytes
        self._sent[packet.packet_number] = (
            self._delivered,
            self._delivered_at,
            self._first_sent_at,
            self._delivered < self._idle_until,
        )

    def on_packet_acked(self, *, now: float, packet: Packet) -> None:
        size = packet.sent_bytes
        self.bytes_in_flight -= size
        self._delivered += size
        self._acked += size
        record = self._sent.pop(packet.packet_number, None)
        if record is not None:
            self._last = record, packet.sent_time or 0.0

    def on_packets_expired(self, *, packets: Iterable[Packet]) -> None:
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes
            self._sent.pop(packet.packet_number, None)

    def on_packets_lost(self, *, now: float, packets: Iterable[Packet]) -> None:
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes
            self._round_lost += packet.sent_bytes
            self._sent.pop(packet.packet_number, None)

    def on_persistent_congestion(self) -> None:
        """Nothing arrived for several round trips: the way may have become another one."""
        self._start_over()
        self.congestion_window = _LEAST_PACKETS * self.datagram_size

    def on_rtt_measurement(self, *, now: float, rtt: float) -> None:
        """It comes once for each ack, after all packets that this acks."""
        self._measure_rtt(now, rtt)
        if self._last is None:
            return
        (delivered, delivered_at, first_sent_at, idle), sent_at = self._last
        self._last = None
        self._delivered_at = now
        self._first_sent_at = sent_at
        new_round = delivered >= self._round_end
        if new_round:
            self._round_end = self._delivered
            self._forget_rates(now)
            self._rates.append((now, 0.0))
        # Whichever is longer: acks that came in a lump do not make the way faster.
        took = max(now - delivered_at, sent_at - first_sent_at)
        if took > 0:
            rate = (self._delivered - delivered) / took
            if rate > self._rates[-1][1] and (not idle or rate > self._bandwidth):
                self._rates[-1] = now, rate
        if new_round or self._rates[-1][1] > self._bandwidth:
            self._bandwidth = max(rate for _, rate in self._rates) or self._bandwidth
        if new_round:
            self._end_round(idle)
        self._change_phase(now)
        self._set_rate()

    def get_log_data(self) -> dict[str, Any]:
        """For aioquic's own log."""
        return {"cwnd": self.congestion_window, "bytes_in_flight": self.bytes_in_flight}

    # Ours.

    @property
    def _held(self) -> float:
        """Bytes that the way holds."""
        if not self._bandwidth:
            return self.congestion_window / _HEADROOM
        return self._bandwidth * self._rtt

    @property
    def _rtt(self) -> float:
        """Seconds of a round trip without a queue, but with processes that have to wait."""
        return self._min_rtt + min(max(self._usual_rtt - self._min_rtt, _LUMP), _LONG_LUMP)

    def _start_over(self) -> None:
        self.phase = Phase.STARTUP
        self._bandwidth = 0.0
        self._rates: deque[tuple[float, float]] = deque([(0.0, 0.0)])
        self._best = 0.0
        self._stuck = 0
        self._step = 0
        self._step_at = 0.0
        self._rtt_until = 0.0

    def _forget_rates(self, now: float) -> None:
        old = now - max(_ROUNDS * self._rtt, _RATE_AGE)
        while len(self._rates) > 1 and self._rates[0][0] < old:
            self._rates.popleft()

    def _measure_rtt(self, now: float, rtt: float) -> None:
        self._usual_rtt += (rtt - self._usual_rtt) / 8 if self._usual_rtt else rtt
        if rtt <= self._min_rtt:
            self._min_rtt = rtt
            self._min_rtt_at = now
        elif now - self._min_rtt_at > _RTT_AGE and self.phase is Phase.CRUISE:
            self.phase = Phase.RTT
            self._rtt_until = now + _RTT_PROBE + self._min_rtt
            self._old_rtt = self._min_rtt
            self._min_rtt = rtt
            self._min_rtt_at = now

    def _end_round(self, idle: bool) -> None:
        delivered = self._delivered - self._round_delivered
        lossy = self._round_lost > _TOO_LOSSY * (delivered + self._round_lost)
        self._round_delivered = self._delivered
        self._round_lost = 0
        if self.phase is Phase.STARTUP and not idle:
            if self._bandwidth >= self._best * _GROWTH:
                self._best = self._bandwidth
                self._stuck = 0
            else:
                self._stuck += 1
            if self._stuck >= _STUCK or (self._stuck and lossy):
                self.phase = Phase.DRAIN
        elif lossy and self.phase is Phase.CRUISE:
            self._ceiling = max(self._held, _BACK_OFF * self.congestion_window)
        elif self._ceiling < math.inf:
            self._ceiling *= _RECOVER
            if self._ceiling > _HEADROOM * self._held:
                self._ceiling = math.inf

    def _change_phase(self, now: float) -> None:
        if self.phase is Phase.RTT and now >= self._rtt_until:
            if self._min_rtt > _OTHER_WAY * self._old_rtt:
                self._start_over()
            else:
                self._cruise(now)
        elif self.phase is Phase.DRAIN and self.bytes_in_flight <= self._held:
            self._cruise(now)
        elif self.phase is Phase.CRUISE and now - self._step_at > self._rtt:
            self._step = (self._step + 1) % len(_CYCLE)
            self._step_at = now

    def _cruise(self, now: float) -> None:
        self.phase = Phase.CRUISE
        self._step = 2
        self._step_at = now

    def _set_rate(self) -> None:
        acked, self._acked = self._acked, 0
        if self.phase is Phase.STARTUP:
            gain = headroom = _FAST
        else:
            headroom = _HEADROOM if self.phase is not Phase.RTT else 0.5
            gain = 1.0
            if self.phase is Phase.DRAIN:
                gain = 1 / _FAST
            elif self.phase is Phase.CRUISE:
                gain = _CYCLE[self._step]
        rate = self._bandwidth
        if self.phase is Phase.STARTUP:  # What was seen of a few packets is not what could be.
            rate = max(rate, _INITIAL_PACKETS * self.datagram_size / self._min_rtt)
        self.pacing_rate = max(gain * rate, self.datagram_size)
        least = _LEAST_PACKETS * self.datagram_size
        target = max(min(headroom * self._held, self._ceiling), least)
        grown = self.congestion_window + acked
        if self.phase is Phase.STARTUP:
            self.congestion_window = max(self.congestion_window, int(min(grown, target)))
        else:
            self.congestion_window = int(min(grown, target))


class Pacer:
    """
    Spreads packets over time, a few in one go, because a timer of the reactor is a millisecond
    late; by the controller's rate.  It has the shape of aioquic's.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._next = 0.0
        self._ahead = _BURST

    def next_send_time(self, now: float) -> float | None:
        """@return: when to send on; C{None} for now."""
        return None if self._next <= now + self._ahead else self._next

    def update_after_send(self, now: float) -> None:
        """
        A packet was sent.  Acks do not wait, so they must not make data wait without end.
        """
        rate = self._controller.pacing_rate
        if rate is not None:
            takes = self._controller.datagram_size / rate
            self._ahead = max(_BURST, _BURST_PACKETS * takes)
            self._next = min(max(self._next, now - _LATE), now + self._ahead) + takes

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        """What aioquic would make it of; it is the controller's business."""
