"""
A link: streams over channels that come and go.

It has a place (a slot) for a main channel and one for a channel for bulk transfers, so that those
do not delay a keystroke; and one for a channel in reserve, where the main one may fail without
notice.  A channel begins with HELLO from the visitor and WELCOME from the provider; then each side
tells what it has received of every stream, says RESUME, and goes on from there.  When a channel is
lost its streams move to the other one, or wait for the next.  Without any for C{resume_timeout} the
link ends, and its streams with a reset.

Only the visitor opens streams.  What is said of them is the business of L{streams}, which channel
carries what that of L{carriage}.  The link makes no channels: whoever does hears what is missing as
a L{Keeper}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from ..wire import frames
from ..wire.frames import Frame, Kind, Reset
from .carriage import Carriage
from .channel import Channel
from .memory import Memory
from .parties import DatagramUse, Keeper
from .slots import RESERVE, Slots
from .stream import BULK_SLOT, MAIN, Stream
from .streams import Streams

#: Seconds that streams wait for a channel.
RESUME_TIMEOUT = 120.0
#: The causes that say that streams of the link cannot go on, as opposed to one of its channels.
_FATAL = {
    Reset.UNKNOWN,
    Reset.LIMIT,
    Reset.FORBIDDEN,
    Reset.SHUTDOWN,
    Reset.TIMEOUT,
    Reset.PROTOCOL,
}


class Link:
    """
    @ivar id: what the visitor calls it.
    @ivar streams: those that are not over, by number.
    @ivar channels: the ones that carry, by slot, and that are about to.
    @ivar carriage: which of them carries what.
    @ivar bytes_in: bytes of streams and datagrams that came in.
    @ivar over: why it ended.
    @ivar demoted: visitor: called when a direct path is given up for the relay, which is faster.
    @ivar datagram_received: called with the flow and each datagram that comes.
    @ivar why_not_direct: says why its channels go through the relay, if they do.
    @ivar datagrams: who sends and takes them, if it is a link for datagrams.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        keeper: Keeper,
        memory: Memory,
        link_id: bytes,
        service: str,
        visitor: bool,
        resume_timeout: float = RESUME_TIMEOUT,
    ) -> None:
        self.id = link_id
        self.service = service
        self.visitor = visitor
        self.channels = Slots()
        wants_bulk = (lambda: keeper.wants_channel(self, BULK_SLOT)) if visitor else None
        self.carriage = Carriage(clock, memory, self.channels, wants_bulk, self._slower)
        self.streams = Streams(clock, self, self.carriage, keeper, visitor)
        self.bytes_in = 0
        self.over: Reset | None = None
        self.demoted: Callable[[], None] = lambda: None
        self.why_not_direct: Callable[[], str] = lambda: "direct = off here"
        self.datagram_received: Callable[[int, memoryview], None] = lambda flow, payload: None
        self.datagrams: DatagramUse | None = None
        self._clock = clock
        self._keeper = keeper
        self._resume_timeout = resume_timeout
        self._welcomed = False
        self._patience: IDelayedCall | None = clock.callLater(resume_timeout, self._give_up)

    # For whoever uses it.

    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.over is not None

    @property
    def connected(self) -> bool:
        """Whether it has a channel."""
        return self.channels.first is not None

    @property
    def users(self) -> int:
        """How many streams and flows it carries now."""
        return len(self.streams) + (len(self.datagrams.flows) if self.datagrams is not None else 0)

    @property
    def bytes_out(self) -> int:
        """Bytes of streams and datagrams that went out, those of replays too."""
        return self.carriage.bytes_out

    @bytes_out.setter
    def bytes_out(self, count: int) -> None:
        self.carriage.bytes_out = count

    @property
    def rtt(self) -> float | None:
        """Seconds, there and back over the main channel."""
        return self.carriage.rtt

    @property
    def path(self) -> str:
        """Which way its main channel takes, if not that of the session's legs."""
        return self.channels.path

    def open_stream(self, flags: int = 0) -> Stream:
        """A program of the visitor's wants a stream."""
        channel = self.channels.first
        return self.streams.open(channel.slot if channel is not None else MAIN, flags)

    def attach(self, channel: Channel, slot: int) -> Deferred[bool]:
        """
        Visitor: a channel that is secured is to be one of this link's.

        @return: fires with whether it is, or came to nothing.
        """
        if self.over is not None:
            channel.close()
            return succeed(False)
        generation = self.channels.next_generation(slot)
        channel.slot, channel.generation, channel.owner = slot, generation, self
        if slot == RESERVE:
            self._keep(channel)
        if channel.path:
            # Nobody hears HELLO, or its answer, before packets of full size have come through.
            channel.send(frames.probe())
        fresh = not self._welcomed
        channel.send(frames.hello(slot, generation, self.id, self.service, fresh))
        if slot == RESERVE:
            return succeed(True)
        self._tell(channel)
        if fresh:
            self._carry(channel)  # The other side has nothing to say yet.
            return succeed(True)
        return self.channels.arrive(channel)

    def fall_back(self) -> Channel | None:
        """
        Visitor: the channel in reserve is to be the main one.

        @return: it, if there is one.
        """
        channel = self.channels[RESERVE]
        if channel is not None:
            self._wake(channel)
            self.attach(channel, MAIN)
        return channel

    def adopt(self, channel: Channel, hello: Frame) -> bool:
        """
        Provider: the visitor said HELLO on a channel that is secured.

        @return: whether it is one of this link's from now on.
        """
        slot, generation = hello.stream, hello.value
        if self.over is not None:
            refuse(channel, self.over)
            return False
        if not self.channels.admit(slot, generation):
            refuse(channel, Reset.STALE)
            return False
        channel.slot, channel.generation, channel.owner = slot, generation, self
        if slot == RESERVE:
            self._keep(channel)
        else:
            self._replace_with(channel)
        channel.send(frames.header(Kind.WELCOME, slot, generation))
        if slot != RESERVE:
            self._tell(channel)
            self.channels.arrive(channel)
        return True

    def drop(self, slot: int) -> None:
        """Do without the channel of C{slot}: its streams go on over the other one."""
        channel = self.channels[slot]
        if channel is not None:
            self._detach(channel)

    def send_datagram(self, flow: int, payload: bytes | memoryview) -> bool:
        """@return: whether it is on its way; it is not if there is no room."""
        channel = self.channels[MAIN]
        if channel is None or not channel.room or len(payload) > frames.MAX_OTHER:
            return False
        channel.send(frames.datagram(flow, payload))
        return True

    def close(self, cause: Reset) -> None:
        """End it, with its streams, and tell the other side."""
        if self.over is not None:
            return
        for channel in self.channels.all:
            refuse(channel, cause)
        self._end(cause)

    # For its channels.

    def received(self, channel: Channel, frame: Frame) -> None:
        """A frame came."""
        kind, number = frame.kind, frame.stream
        if kind == Kind.DATA:
            stream = self.streams.get(number)
            if stream is not None:
                size = len(frame.payload)
                self.bytes_in += size
                if channel.slot == MAIN:
                    self.carriage.came(size)
                self.streams.data(stream, frame)
        elif kind == Kind.DATAGRAM:
            self.datagram_received(number, frame.payload)  # type: ignore[arg-type]
        elif kind == Kind.RESUME:
            if channel in self.channels.arriving:
                self._carry(channel)
        elif kind == Kind.HELLO:
            if not self.visitor:
                self._begin_again(channel, frame)
        elif kind == Kind.WELCOME:
            if self.visitor:
                self._welcome(channel, number, frame.value)
        elif kind == Kind.RST and not number:
            self._refused(channel, Reset.of(frame.value))
        else:
            self.streams.received(channel, frame)

    def drained(self, channel: Channel) -> None:
        """A channel has room."""
        self.carriage.drained(channel)

    def worn(self, channel: Channel) -> None:
        """A channel should be replaced; the visitor sees to that."""
        if self.channels[channel.slot] is channel:
            self._keeper.wants_channel(self, channel.slot)
        elif channel in self.channels.arriving:
            channel.close()
            self.lost(channel, "nothing comes in answer")

    def lost(self, channel: Channel, why: str) -> None:
        """A channel is over."""
        slot = channel.slot
        arriving = self.channels.give_up(channel)
        if self.channels[slot] is channel:
            if slot == RESERVE:
                self.channels.empty(RESERVE)
                self._keeper.wants_channel(self, RESERVE)
                return
            self._detach(channel)
        if self.channels.expects(slot):  # It was to be replaced, or to replace another one.
            if arriving and self.visitor:
                self._not_replaced(slot)
            return
        self._log.info(
            "link to {service}: channel lost: {why}; {count} streams go on when there is another",
            service=self.service,
            why=why,
            count=len(self.streams),
        )
        self._keeper.wants_channel(self, slot)

    # For its streams: see L{Body}.

    def advanced(self) -> None:
        """
        There is a channel, and it is of use.  That it was proven is not enough while bytes are to
        be sent: a relay may let every channel begin, and none do anything.
        """
        if self._patience is not None and self.channels.first is not None:
            self._patience.cancel()
            self._patience = None

    def settle(self) -> None:
        """There is one stream less that has something on its way."""
        if self._patience is not None:
            self._advanced_if_idle()

    # Inside.

    def _slower(self) -> None:
        """The direct path carries less than the relay; the visitor does without it."""
        channel = self.channels[MAIN]
        if channel is None or not channel.path:
            return
        if self.visitor:
            channel.worn = True
            self.demoted()
            self._keeper.wants_channel(self, MAIN)
        else:
            channel.send(frames.header(Kind.RST, 0, Reset.SLOW))

    def _tell(self, channel: Channel) -> None:
        """Say what was received: the other side goes on from there."""
        self.streams.tell(channel)
        channel.send(frames.header(Kind.RESUME))

    def _welcome(self, channel: Channel, slot: int, generation: int) -> None:
        """The provider knows the link."""
        self._welcomed = True
        if slot == MAIN and generation == channel.generation:
            self._keeper.secured(self, channel)

    def _carry(self, channel: Channel) -> None:
        """The channel is proven, and both sides know where they are."""
        slot = channel.slot
        self._replace_with(channel)
        arrived = self.channels.put(channel)
        self._advanced_if_idle()
        self.streams.tell_resets(channel)
        self.carriage.gained(slot)
        self.streams.ack_due()
        self.carriage.drained(channel)
        if not self.visitor and slot == MAIN:
            self._keeper.secured(self, channel)
        if channel.path and self.channels[RESERVE] is None:
            self._keeper.wants_channel(self, RESERVE)
        arrived()

    def _replace_with(self, channel: Channel) -> None:
        """The one that has its slot goes, and so do those that were to have it before it."""
        for older in self.channels.overtaken(channel):
            older.close()
        old = self.channels[channel.slot]
        if old is not None:
            self._detach(old, keep=bool(channel.path) and not old.path)

    def _not_replaced(self, slot: int) -> None:
        """Visitor: what came to take C{slot} is lost; the provider may have left the old one."""
        old = self.channels[MAIN]
        if slot != MAIN or old is None or self.channels.is_coming(MAIN):
            return
        if not old.path:
            self._detach(old, keep=True)
            self.fall_back()
        elif old.failing:
            self._keeper.wants_channel(self, MAIN)

    def _begin_again(self, channel: Channel, hello: Frame) -> None:
        """Provider: HELLO on a channel that had its time, or is to have another one."""
        if self.channels[MAIN] is channel and not channel.path:
            self._detach(channel, keep=True)
        if self.channels[RESERVE] is channel:
            self._wake(channel)
            self.adopt(channel, hello)

    def _keep(self, channel: Channel) -> None:
        """It is in reserve from now on."""
        older = self.channels[RESERVE]
        if older is not None:
            older.close()
        channel.slot = RESERVE
        channel.rest()
        self.channels.put(channel)

    def _wake(self, channel: Channel) -> None:
        """The channel in reserve is to carry."""
        self.channels.empty(RESERVE)
        channel.wake()

    def _detach(self, channel: Channel, keep: bool = False) -> None:
        """A channel carries no more; C{keep}: it may have to again."""
        slot = channel.slot
        self.channels.empty(slot)
        if keep:
            self._keep(channel)
        else:
            channel.close()
        other = self.channels.first
        self.streams.owe_all()
        self.carriage.lost(slot, channel, self.streams.values())
        if other is not None:
            self.streams.tell_resets(other)
            self.streams.ack_due()
            self.carriage.drained(other)
        elif self._patience is None:
            self._patience = self._clock.callLater(self._resume_timeout, self._give_up)

    def _refused(self, channel: Channel, cause: Reset) -> None:
        """The other side says this of the link, or of a channel."""
        if cause in _FATAL:
            self._end(cause)
        elif cause is Reset.SLOW:
            if self.visitor and channel is self.channels[MAIN]:
                self._slower()
        else:
            channel.close()
            self.lost(channel, f"refused: {cause.name.lower()}")

    def _advanced_if_idle(self) -> None:
        if not any(stream.outstanding for stream in self.streams.values()):
            self.advanced()

    def _give_up(self) -> None:
        self._patience = None
        self._end(Reset.TIMEOUT)

    def _end(self, cause: Reset) -> None:
        if self.over is not None:
            return
        self.over = cause
        for channel in self.channels.all:
            channel.close()
        self.channels.clear()
        self.carriage.stop()
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        self.streams.end(cause)
        self._keeper.ended(self, cause)


def refuse(channel: Channel, cause: Reset) -> None:
    """Say on C{channel} that it, or its link, is not to be, and close it."""
    channel.close_with(frames.header(Kind.RST, 0, cause))
