"""
The channels of a link: one for each slot at most, and those that are about to take one.

Those of the first two slots carry.  The third is in reserve: as long as the main channel does
without the relay, one through the relay is kept, and takes its place when it is lost.  A channel is
newer than another one of its slot if its generation is higher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.defer import Deferred

from .channel import Channel
from .stream import BULK_SLOT, MAIN

#: The slot of the channel that waits.
RESERVE = 2
_SLOTS = MAIN, BULK_SLOT, RESERVE


class Slots:
    """
    @ivar arriving: channels that are proven, but do not carry yet; what fires with whether they
        came to that.
    """

    def __init__(self) -> None:
        self.arriving: dict[Channel, Deferred[bool]] = {}
        self._channels: list[Channel | None] = [None for _ in _SLOTS]
        self._generations = [0 for _ in _SLOTS]

    def __getitem__(self, slot: int) -> Channel | None:
        return self._channels[slot]

    def __iter__(self) -> Iterator[Channel]:
        """Those that carry, the main one first."""
        return (channel for channel in self._channels[:RESERVE] if channel is not None)

    @property
    def first(self) -> Channel | None:
        """The one for whatever any channel may carry."""
        return self._channels[MAIN] or self._channels[BULK_SLOT]

    @property
    def path(self) -> str:
        """Which way that one takes, if not that of the session's legs."""
        channel = self.first
        return channel.path if channel is not None else ""

    @property
    def all(self) -> list[Channel]:
        """Those that carry, that are about to, and the one in reserve."""
        known = (channel for channel in self._channels if channel is not None)
        return [*known, *self.arriving]

    def next_generation(self, slot: int) -> int:
        """For the visitor's next channel of C{slot}."""
        self._generations[slot] += 1
        return self._generations[slot]

    def admit(self, slot: int, generation: int) -> bool:
        """@return: whether a visitor's channel is the newest; if so, it counts from now on."""
        if slot not in _SLOTS or generation <= self._generations[slot]:
            return False
        self._generations[slot] = generation
        return True

    def arrive(self, channel: Channel) -> Deferred[bool]:
        """It is about to have its slot; @return: fires with whether it came to that."""
        arrived: Deferred[bool] = Deferred()
        self.arriving[channel] = arrived
        return arrived

    def give_up(self, channel: Channel) -> bool:
        """It does not come to that, if it was to; @return: whether it was."""
        arrived = self.arriving.pop(channel, None)
        if arrived is not None:
            arrived.callback(False)
        return arrived is not None

    def put(self, channel: Channel) -> Callable[[], None]:
        """
        It has its slot from now on, which is empty.

        @return: to be called when it carries.
        """
        self._channels[channel.slot] = channel
        arrived = self.arriving.pop(channel, None)
        return (lambda: None) if arrived is None else (lambda: arrived.callback(True))

    def empty(self, slot: int) -> None:
        """The channel of C{slot} has it no more."""
        self._channels[slot] = None

    def expects(self, slot: int) -> bool:
        """Whether C{slot} has a channel, or is about to."""
        return self._channels[slot] is not None or self.is_coming(slot)

    def is_coming(self, slot: int) -> bool:
        """Whether a channel is about to have C{slot}."""
        return any(channel.slot == slot for channel in self.arriving)

    def overtaken(self, channel: Channel) -> list[Channel]:
        """@return: those that were to have C{channel}'s slot before it; they arrive no more."""
        older = [
            other
            for other in self.arriving
            if other.slot == channel.slot and other.generation < channel.generation
        ]
        for each in older:
            self.give_up(each)
        return older

    def clear(self) -> None:
        """There is none any more."""
        self._channels = [None for _ in _SLOTS]
        for channel in list(self.arriving):
            self.give_up(channel)
