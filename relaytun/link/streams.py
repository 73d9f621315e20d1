"""
The streams of a link: how they begin, what the two sides tell each other of them, how they end.

What is said of a stream may be lost with the channel that it was said on; so what was received of
each is told again on the next one, and a reset until the other side confirms it.  Which channel
carries what is the link's business.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from ..wire import frames
from ..wire.frames import Frame, Kind, Reset
from ..wire.replay import ReplayWindow
from .acks import Acks
from .channel import Channel
from .parties import Body, Carrier, Keeper
from .slots import RESERVE
from .stream import MAIN, Stream

#: Streams of one link.
MOST_STREAMS = 32 * 1024


class Streams(dict[int, Stream]):
    """
    Those that are not over, by number.

    @ivar unreached: called when one is over because it did not reach the service.
    """

    def __init__(
        self, clock: IReactorTime, link: Body, carrier: Carrier, keeper: Keeper, visitor: bool
    ) -> None:
        super().__init__()
        self.unreached: Callable[[], None] = lambda: None
        self._link = link
        self._carrier = carrier
        self._keeper = keeper
        self._visitor = visitor
        self._numbers = 0
        self._seen = ReplayWindow()
        self._resets: dict[int, Reset] = {}
        self._acks = Acks(clock, self.ack_due)

    def open(self, slot: int, flags: int) -> Stream:
        """A program of the visitor's wants one."""
        self._numbers += 1
        stream = self[self._numbers] = Stream(self._carrier, self, self._numbers, slot, flags)
        stream.open()
        return stream

    def received(self, channel: Channel, frame: Frame) -> None:
        """The other side says something of a stream, other than its bytes."""
        kind, number = frame.kind, frame.stream
        if kind == Kind.ACK:
            stream = self.get(number)
            if stream is not None and stream.acknowledged(frame.value, frame.limit):
                self._link.advanced()
        elif kind == Kind.OPEN:
            self._opened(channel, number, frame.flags)
        elif kind == Kind.FIN:
            self._finished(channel, number, frame.value)
        elif kind == Kind.RST:
            self._reset(channel, number, Reset.of(frame.value))

    def data(self, stream: Stream, frame: Frame) -> None:
        """Bytes of C{stream} came."""
        known = stream.received
        stream.data(frame.value, frame.payload, bool(frame.flags & frames.ACK_NOW))  # type: ignore[arg-type]
        if stream.received > known:
            self._link.advanced()

    # What is told.

    def tell(self, channel: Channel) -> None:
        """Say what was received of each, which is where the other side goes on."""
        for stream in self.values():
            channel.send(frames.ack(stream.id, *stream.told()))

    def tell_resets(self, channel: Channel) -> None:
        """Those that the other side may not know of."""
        for number, cause in self._resets.items():
            channel.send(frames.header(Kind.RST, number, cause))

    def owe_all(self) -> None:
        """What was told of them last may be lost."""
        for stream in self.values():
            self._acks.owe(stream)

    def ack_due(self) -> None:
        """Say what is due, and what is owed."""
        self._acks.stop()
        channel = self._link.channels.first
        if channel is None:
            return
        for stream in self._acks.take():
            if stream.id in self:
                channel.send(frames.ack(stream.id, *stream.told()))

    def end(self, cause: Reset) -> None:
        """The link is over."""
        self._acks.stop()
        for stream in list(self.values()):
            self.broken(stream, cause, tell=False)

    # For each.

    def ack(self, stream: Stream, now: bool) -> None:
        """See L{relaytun.link.parties.Registry}."""
        self._acks.add(stream, now)

    def broken(self, stream: Stream, cause: Reset, tell: bool) -> None:
        """See L{relaytun.link.parties.Registry}."""
        if self.get(stream.id) is not stream:
            return
        end = stream.end
        self._forget(stream)
        if tell:
            self._resets[stream.id] = cause
            channel = self._link.channels.first
            if channel is not None:
                channel.send(frames.header(Kind.RST, stream.id, cause))
        if end is not None:
            end.reset()
        if len(self._resets) > MOST_STREAMS:
            self._link.close(Reset.PROTOCOL)  # The other side never confirms them.

    def over_in_order(self, stream: Stream) -> None:
        """See L{relaytun.link.parties.Registry}."""
        self._forget(stream)

    # Inside.

    def _opened(self, channel: Channel, number: int, flags: int) -> None:
        if number in self:
            return
        if not number:
            self._link.close(Reset.PROTOCOL)
            return
        if self._visitor or not self._seen.add(number):
            channel.send(frames.header(Kind.RST, number, self._resets.get(number, Reset.OVER)))
            return
        if len(self) >= MOST_STREAMS:
            channel.send(frames.header(Kind.RST, number, Reset.LIMIT))
            return
        carrying = self._link.channels.first if channel.slot == RESERVE else channel
        slot = MAIN if carrying is None else carrying.slot
        stream = self[number] = Stream(self._carrier, self, number, slot, flags)
        if carrying is None:
            self._carrier.wants_room(stream)  # It goes by the next one, whichever that is.
        self._keeper.opened(self._link, stream)
        if number in self:
            self._acks.add(stream, False)  # It need not be told again.

    def _finished(self, channel: Channel, number: int, offset: int) -> None:
        stream = self.get(number)
        if stream is None:
            channel.send(frames.header(Kind.RST, number, Reset.OVER))
            return
        stream.fin(offset)
        if number in self:
            # It may be forgotten then: if this is lost, so is the channel that the end came by,
            # and the end comes again.
            channel.send(frames.ack(number, *stream.told()))
            stream.fin_told()

    def _reset(self, channel: Channel, number: int, cause: Reset) -> None:
        if cause is Reset.OVER:
            self._resets.pop(number, None)
        else:
            channel.send(frames.header(Kind.RST, number, Reset.OVER))
            self._seen.add(number)  # Its OPEN may still be on its way, over another channel.
        stream = self.get(number)
        if stream is None:
            return
        if cause is Reset.OVER and stream.is_complete:
            self._forget(stream)
        else:
            self.broken(stream, cause, tell=False)
            if cause is Reset.SERVICE:
                self.unreached()

    def _forget(self, stream: Stream) -> None:
        self.pop(stream.id, None)
        self._acks.forget(stream)
        self._carrier.forget(stream)
        stream.drop()
        self._link.settle()
