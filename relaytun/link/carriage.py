"""
Which of a link's channels carries what its streams have to say, and when.

Each stream has its place (slot): a channel has room, or the stream waits in its queue, or there is
no channel, and it is stranded until there is.  Bulk transfers get a channel of their own, and give
way to keystrokes all the same (L{pacing}).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IReactorTime

from ..wire.frames import HEADER_SIZE
from .channel import Channel
from .contest import Contest
from .memory import Memory
from .pacing import Pacing
from .slots import Slots
from .stream import BULK_SLOT, MAIN, Stream


class Carriage:
    """
    What L{relaytun.link.parties.Carrier} says.

    @ivar bytes_out: bytes of streams and datagrams that went out, those of replays too.
    """

    def __init__(
        self,
        clock: IReactorTime,
        memory: Memory,
        channels: Slots,
        wants_bulk: Callable[[], None] | None,
        slower: Callable[[], None],
    ) -> None:
        """
        @param wants_bulk: called when a channel for bulk transfers would be of use, if this side
            can make one.
        @param slower: called when a direct path is found to carry less than the relay.
        """
        self.memory = memory
        self.bytes_out = 0
        self._clock = clock
        self._channels = channels
        self._wants_bulk = wants_bulk
        self._bulk_wanted = False
        self._stranded: dict[Stream, None] = {}
        self._pacing = Pacing(clock, self._bulk_goes_on)
        self._contest = Contest(clock, self, slower)

    # For the streams.

    def seconds(self) -> float:
        """See L{Carrier}."""
        return float(self._clock.seconds())

    @property
    def rtt(self) -> float | None:
        """See L{Carrier}."""
        channel = self._channels.first
        return channel.rtt if channel is not None else None

    def has_room(self, slot: int) -> bool:
        """See L{Carrier}."""
        channel = self._channels[slot]
        return channel is not None and channel.room and not (slot and self._pacing.gives_way())

    def send(self, slot: int, frame: bytes | memoryview) -> None:
        """See L{Carrier}."""
        channel = self._channels[slot]
        assert channel is not None
        size = len(frame) - HEADER_SIZE
        self.bytes_out += size
        if slot == BULK_SLOT:
            self._pacing.bulk()
        else:
            self._pacing.small(size)
        channel.send(frame)

    def holds(self, slot: int, frame: memoryview) -> bool:
        """See L{Carrier}."""
        channel = self._channels[slot]
        return channel is not None and channel.holds(frame)

    def wants_room(self, stream: Stream) -> None:
        """See L{Carrier}."""
        if stream.queued:
            return
        channel = self._channels[stream.slot]
        if channel is None:
            self._stranded[stream] = None
        else:
            stream.queued = True
            channel.waiting.append(stream)
            self._contest.full()

    def bulk(self, stream: Stream) -> bool:
        """See L{Carrier}."""
        if self._channels[BULK_SLOT] is not None:
            return True
        if self._wants_bulk and not self._bulk_wanted and self._channels[MAIN] is not None:
            self._bulk_wanted = True
            self._wants_bulk()
        return False

    # For the link.

    def came(self, size: int) -> None:
        """So many bytes of a stream came over the main channel."""
        self._pacing.small(size)

    def drained(self, channel: Channel) -> None:
        """A channel has room: those that wait for it go on, in turn."""
        waiting = channel.waiting
        while waiting and self.has_room(channel.slot):
            stream = waiting.popleft()
            assert isinstance(stream, Stream)
            stream.queued = False
            stream.go()

    def gained(self, slot: int) -> None:
        """There is a channel in C{slot}, or another one: who had none may wait for it."""
        # One that was asked for where there was to be none is asked for again, if need be.
        self._bulk_wanted = self._channels[BULK_SLOT] is not None
        stranded, self._stranded = self._stranded, {}
        for stream in stranded:
            if self._channels[stream.slot] is None:
                stream.slot = slot
            self.wants_room(stream)

    def lost(self, slot: int, channel: Channel, streams: Iterable[Stream]) -> None:
        """C{channel} has C{slot} no more: its streams go back, and to the other one if they can."""
        if slot == BULK_SLOT:
            self._bulk_wanted = False
        for waiting in channel.waiting:
            assert isinstance(waiting, Stream)
            waiting.queued = False
        channel.waiting.clear()
        other = self._channels.first
        for stream in streams:
            if stream.slot == slot:
                stream.rewind()
                if other is not None:
                    stream.slot = other.slot
            self.wants_room(stream)

    def forget(self, stream: Stream) -> None:
        """It is over, and waits for nothing."""
        self._stranded.pop(stream, None)

    def stop(self) -> None:
        """The link is over."""
        self._pacing.stop()
        self._contest.stop()

    # For its contest.

    @property
    def path(self) -> str:
        """See L{relaytun.link.contest.Contestants}."""
        return self._channels.path

    def is_full(self) -> bool:
        """See L{relaytun.link.contest.Contestants}."""
        return any(channel.waiting for channel in self._channels)

    def _bulk_goes_on(self) -> None:
        channel = self._channels[BULK_SLOT]
        if channel is not None:
            self.drained(channel)
