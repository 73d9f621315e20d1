"""
Who talks to whom in a link.

From the program down to the channel: an L{End} is the program's side of a stream; a stream knows
what carries it as a L{Carrier}, and those that it stands among as a L{Registry}, which know their
link as a L{Body}; whoever made the link hears of it as its L{Keeper}; a channel tells its L{Owner},
which is a link, or whoever waits for its first frame, and is an L{Asker} for its pulse.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, Protocol, TypeAlias

from ..wire.frames import Frame, Reset
from .memory import Memory

# Those rooms stand above this one, and import it: here they are names for the reader.
Channel: TypeAlias = Any
Link: TypeAlias = Any
Slots: TypeAlias = Any
Stream: TypeAlias = Any


class End(Protocol):
    """The program's side of a stream."""

    def deliver(self, data: memoryview) -> None:
        """The next bytes, valid during the call; all are taken, and counted by C{consumed}."""

    def finish(self) -> None:
        """No more bytes will come."""

    def reset(self) -> None:
        """The stream broke: so must the program's connection."""

    def read_on(self) -> None:
        """There is room again."""


class Carrier(Protocol):
    """
    What carries the streams, as they see it.

    @ivar memory: where chunks are kept.
    """

    memory: Memory

    @property
    def rtt(self) -> float | None:
        """Seconds there and back, if that is known yet."""

    def seconds(self) -> float:
        """The time, by a clock that only goes forward."""

    def has_room(self, slot: int) -> bool:
        """Whether the channel of C{slot} takes a frame now."""

    def send(self, slot: int, frame: bytes | memoryview) -> None:
        """On the channel of C{slot}."""

    def holds(self, slot: int, frame: memoryview) -> bool:
        """Whether the channel of C{slot} has it and has not written it."""

    def wants_room(self, stream: Stream) -> None:
        """Call its C{go} when its channel has room."""

    def bulk(self, stream: Stream) -> bool:
        """It is a bulk transfer; @return: whether there is a channel for those."""

    def forget(self, stream: Stream) -> None:
        """It is over, and waits for nothing."""


class Body(Protocol):
    """
    The link, as its streams together see it.

    @ivar channels: what carries.
    """

    channels: Slots

    def advanced(self) -> None:
        """Bytes have arrived that had not before."""

    def settle(self) -> None:
        """There is one stream less that has something on its way."""

    def close(self, cause: Reset) -> None:
        """End the link."""


class Registry(Protocol):
    """All streams of the link, as one of them sees them."""

    def ack(self, stream: Stream, now: bool) -> None:
        """Tell the other side what was received, C{now} or a little later."""

    def broken(self, stream: Stream, cause: Reset, tell: bool) -> None:
        """It is reset; C{tell} the other side."""

    def over_in_order(self, stream: Stream) -> None:
        """It ended in order."""


class Keeper(Protocol):
    """Whom a link tells."""

    def wants_channel(self, link: Link, slot: int) -> None:
        """A channel is missing, or lost, or one that is there should be replaced."""

    def opened(self, link: Link, stream: Stream) -> None:
        """The visitor opened a stream: attach the service."""

    def ended(self, link: Link, cause: Reset) -> None:
        """The link is over, with all of its streams."""

    def secured(self, link: Link, channel: Channel) -> None:
        """A new main channel is proven on both sides."""


class Owner(Protocol):
    """Whom a channel tells."""

    def received(self, channel: Channel, frame: Frame) -> None:
        """A frame came; its payload is valid during the call."""

    def drained(self, channel: Channel) -> None:
        """It has room again."""

    def worn(self, channel: Channel) -> None:
        """Its keys have served for long enough."""

    def lost(self, channel: Channel, why: str) -> None:
        """It is over; called once, unless it was closed by us."""


class Asker(Protocol):
    """A channel, as its pulse sees it."""

    def ask(self) -> None:
        """Send a PING."""

    def silent(self) -> None:
        """Another one should take its place, if there is one; it may recover."""

    def dead(self, why: str) -> None:
        """It is lost."""


class DatagramUse(Protocol):
    """
    What is told of a link's datagrams.

    @ivar flows: those that there are now.
    """

    flows: Sized

    def report(self) -> dict[str, Any]:
        """What C{relaytun status --json} says of them."""
