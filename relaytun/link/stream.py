"""
One stream of a link: what each side has written, sent, received, consumed and acknowledged.

Every byte has an offset.  A sender keeps what is not acknowledged, so that it can send it again on
another channel; a receiver takes what continues what it has, and drops what it has already.  The
end of a direction counts as one more byte, so that it is acknowledged like the others.

Pure: no clock, no socket.  At one side is an L{End}, the program's connection; at the other a
L{Carrier}, the link, which knows the channels, and a L{Registry}, which says what there is to be
said.  A stream is carried, in each direction, by one channel at a time (its C{slot}), and changes
it when nothing is in flight or when the channel is lost; so bytes arrive in order, or twice, but
never with a gap.  A gap is the other side's fault.
"""

from __future__ import annotations

from collections import deque

from ..wire import frames
from ..wire.frames import HEADER_SIZE, Kind, Reset
from .memory import PAYLOAD, SMALL, TRICKLE
from .parties import Carrier, End, Registry

#: Bytes that a receiver takes unasked; its window grows while its program keeps up.
FIRST_WINDOW = 256 * 1024
MOST_WINDOW = 4 * 1024 * 1024
#: A window that is used up within so many round trips may be what slows the stream down: by itself
#: it lets a window pass in each.
ROUND_TRIPS = 4
#: Seconds that one takes at least where all are busy: each of the programs has to have its turn.
TURN = 0.002
#: Bytes that a sender keeps for a replay.
REPLAY = 4 * 1024 * 1024
#: Bytes sent, or received, without a pause after which a stream counts as a bulk transfer.
BULK = 512 * 1024
#: The channels of a link.
MAIN, BULK_SLOT = 0, 1


class Stream:
    """
    @ivar written: bytes that the program wrote.
    @ivar acked: what the other side has received (its end counts as one).
    @ivar limit: the offset up to which it may send.
    @ivar received: bytes that came.
    @ivar consumed: bytes that the program took.
    @ivar slot: which channel carries what it sends.
    @ivar queued: it waits for room in that channel.
    """

    __slots__ = (
        "_burst", "_came", "_dropped", "_early", "_fin_taken", "_fin_told", "_finished", "_holding",
        "_marked", "_migrated", "_peer_fin", "_sent", "_sent_to", "_unsent", "_window", "acked",
        "announced", "carrier", "consumed", "end", "flags", "id", "limit", "migrating",
        "queued", "received", "registry", "slot", "unacked", "written",
    )  # fmt: skip

    def __init__(
        self, carrier: Carrier, registry: Registry, number: int, slot: int, flags: int = 0
    ) -> None:
        self.carrier = carrier
        self.registry = registry
        self.id = number
        self.slot = slot
        self.flags = flags
        self.end: End | None = None
        self.queued = False
        self.migrating = False
        self._migrated = False
        self._dropped = False
        # What goes out: (offset behind it, frame).
        self.written = self.acked = 0
        self.limit = FIRST_WINDOW
        self._sent: deque[tuple[int, memoryview | bytes]] = deque()
        self._unsent: deque[tuple[int, memoryview | bytes]] = deque()
        self._sent_to = 0
        self._burst = 0
        self._holding = False
        self._finished = False
        # What comes in.
        self.received = self.consumed = 0
        self._came = 0
        self.announced = FIRST_WINDOW
        self.unacked = 0
        self._window = FIRST_WINDOW
        self._marked = 0, carrier.seconds()
        self._peer_fin = False
        self._fin_taken = False
        self._fin_told = False
        self._early: list[bytes] = []

    # The program's side.

    def open(self) -> None:
        """Tell the other side of it."""
        self._unsent.append((0, frames.header(Kind.OPEN, self.id, 0, self.flags)))
        self.go()

    def attach(self, end: End) -> None:
        """The program is there; it gets what has come already."""
        if self._dropped:
            end.reset()
            return
        self.end = end
        early, self._early = self._early, []
        for data in early:
            if self.end is end:
                end.deliver(memoryview(data))
        if self._peer_fin and not self._fin_taken and self.end is end:
            self._fin_taken = True
            end.finish()

    def allowance(self) -> int:
        """How many bytes the program may write now; if none, its end hears when it may."""
        carrier = self.carrier
        room = min(self.limit, self.acked + min(REPLAY, carrier.memory.share)) - self.written
        if room <= 0 or self.migrating or (room < SMALL and self.written > self.acked):
            return 0  # An ACK will come; and then it is worth more.
        if self._unsent or not carrier.has_room(self.slot):
            carrier.wants_room(self)
            return 0
        if carrier.memory.full:
            if self.written > self.acked:
                carrier.memory.wait(self.go)
                return 0
            return min(room, TRICKLE)
        return min(room, PAYLOAD)

    def send(self, size: int) -> None:
        """
        The program wrote C{size} bytes, at most the last C{allowance}; they stand in the
        memory's scratch, behind room for a header.
        """
        carrier = self.carrier
        if self._migrated:  # The pause was ours: it goes on as what it is.
            self._migrated = False
        elif not self._sent:  # Nothing in flight: it may take another channel.
            self._burst = 0
            if self.slot != MAIN and carrier.has_room(MAIN):
                self.slot = MAIN
        self._burst += size
        flags = 0
        if self._burst > BULK and self.slot == MAIN and carrier.bulk(self):
            self.migrating = True
            flags = frames.ACK_NOW
        memory = carrier.memory
        if not self._holding:
            self._holding = True
            memory.holders += 1
        frames.data_header_into(memory.scratch, self.id, self.written, size, flags)
        self.written += size
        self._transmit(self.written, memory.keep(HEADER_SIZE + size))

    def finish(self) -> None:
        """The program wrote its last byte."""
        if not self._finished:
            self._finished = True
            fin = frames.header(Kind.FIN, self.id, self.written)
            self._unsent.append((self.written + 1, fin))
            self.go()

    def reset(self, cause: Reset) -> None:
        """The program is gone, or is not to be had."""
        self.registry.broken(self, cause, tell=True)

    def took(self, size: int) -> None:
        """The program took C{size} bytes."""
        if self._dropped:
            return  # It ended in order, and the program has not had all of it yet.
        self.consumed += size
        keeps_up = self.received - self.consumed <= self._window // 4
        if self._window < MOST_WINDOW and self._is_narrow() and keeps_up:
            self._window *= 2  # Let more be on the way: that is what may slow it down.
        if self.consumed + self._window - self.announced >= self._window // 4:
            self.registry.ack(self, now=True)

    def _is_narrow(self) -> bool:
        """Whether the window seems to be what holds the other side up."""
        if self.announced - self.received < self._window // 2:
            return True
        offset, then = self._marked
        used = self.consumed - offset
        if used < self._window // 2:
            return False
        now, rtt = self.carrier.seconds(), self.carrier.rtt
        self._marked = self.consumed, now
        if rtt is None:
            return False
        return (now - then) * self._window < ROUND_TRIPS * max(rtt, TURN) * used

    # The other side.

    def data(self, offset: int, data: memoryview, ack_now: bool) -> None:
        """Bytes came."""
        known = self.received - offset
        if known:
            if known < 0:
                self.registry.broken(self, Reset.PROTOCOL, tell=True)
                return
            data = data[known:]
        size = len(data)
        if not size:
            self.registry.ack(self, now=ack_now)
            return
        if self._peer_fin or self.received + size > self.announced:
            self.registry.broken(self, Reset.PROTOCOL, tell=True)
            return
        self._came += size
        if self._came - size < BULK <= self._came:
            self.carrier.bulk(self)
        self.received += size
        self.unacked += size
        self.registry.ack(self, now=ack_now or self.unacked >= self._window // 4)
        if self.end is not None:
            self.end.deliver(data)
        else:
            self._early.append(bytes(data))

    def fin(self, offset: int) -> None:
        """The other side's program wrote its last byte."""
        if offset != self.received:
            self.registry.broken(self, Reset.PROTOCOL, tell=True)
            return
        if not self._peer_fin:
            self._peer_fin = True
            if self.end is not None:
                self._fin_taken = True
                self.end.finish()

    def acknowledged(self, received: int, limit: int) -> bool:
        """
        The other side told what it has, and what it takes.

        @return: whether it has more than before.
        """
        if received > self._sent_to:
            self.registry.broken(self, Reset.PROTOCOL, tell=True)
            return False
        release = self.carrier.memory.release
        before = len(self._sent) + len(self._unsent)
        if received >= self.acked:
            self.acked = received
            for kept in (self._sent, self._unsent):
                while kept and kept[0][0] <= received:
                    frame = kept.popleft()[1]
                    if frame[0] == Kind.DATA:
                        if isinstance(frame, memoryview) and self.carrier.holds(self.slot, frame):
                            frame = frame.toreadonly()  # The other side lies: see Memory.release.
                        release(frame)
        advanced = len(self._sent) + len(self._unsent) < before
        if not (self._sent or self._unsent):
            self._hold_nothing()
        self.limit = max(self.limit, limit)
        if self.migrating and not self._sent and not self._unsent:
            self.migrating = False
            if self.carrier.bulk(self):
                self._migrated = True
                self.slot = BULK_SLOT
        if not self._forget_if_over() and not self._finished and self.end is not None:
            self.end.read_on()
        return advanced

    def told(self) -> tuple[int, int]:
        """
        What to tell the other side, which counts as told.

        @return: what was received, and the limit.
        """
        self.announced = max(self.announced, self.consumed + self._window)
        self.unacked = 0
        return self.received + self._peer_fin, self.announced

    def fin_told(self) -> None:
        """The other side was told that its end is here: that may have been the last thing to do."""
        self._fin_told = True
        self._forget_if_over()

    # The channels.

    def go(self) -> None:
        """Its channel has room, or there is something new to be sent."""
        carrier = self.carrier
        while self._unsent:
            if not carrier.has_room(self.slot):
                carrier.wants_room(self)
                return
            self._transmit(*self._unsent.popleft())
        if not self._finished and self.end is not None:
            self.end.read_on()

    def rewind(self) -> None:
        """Its channel is lost: what was not acknowledged has to be sent again."""
        self.migrating = False
        self._came = 0
        while self._sent:
            behind, frame = self._sent.pop()
            if isinstance(frame, memoryview):
                frame = frame.toreadonly()  # It may stand in two queues: see Memory.release.
            self._unsent.appendleft((behind, frame))

    def drop(self) -> None:
        """Free what it keeps."""
        self.rewind()
        self._dropped = True
        self.end = None
        self._early.clear()
        self._hold_nothing()
        unsent, self._unsent = self._unsent, deque()
        for _, frame in unsent:
            if frame[0] == Kind.DATA:
                self.carrier.memory.release(frame)  # That may wake this very stream.

    @property
    def outstanding(self) -> bool:
        """Whether the other side has yet to acknowledge something."""
        return bool(self._sent or self._unsent)

    @property
    def is_untold(self) -> bool:
        """
        Whether the other side has not been told of it, or may have missed it.

        Its OPEN alone does not say: as long as only the other side speaks, nobody acknowledges it.
        """
        return not self.received and bool(self._unsent) and not self._unsent[0][0]

    @property
    def is_over(self) -> bool:
        """Whether both sides wrote their last byte, and the other side has ours."""
        return self._peer_fin and self._finished and self.acked > self.written

    @property
    def is_complete(self) -> bool:
        """Whether both sides wrote their last byte."""
        return self._peer_fin and self._finished

    def _hold_nothing(self) -> None:
        if self._holding:
            self._holding = False
            self.carrier.memory.holders -= 1

    def _transmit(self, behind: int, frame: memoryview | bytes) -> None:
        self._sent.append((behind, frame))
        if behind > self._sent_to:
            self._sent_to = behind
        self.carrier.send(self.slot, frame)

    def _forget_if_over(self) -> bool:
        if self.is_over and self._fin_told:
            self.registry.over_in_order(self)
            return True
        return False
