"""What the tests of the link share: channels without TLS, programs without sockets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.link import acks
from relaytun.link.link import Link, refuse
from relaytun.link.memory import Memory
from relaytun.link.stream import Stream
from relaytun.wire import frames
from relaytun.wire.frames import HEADER_SIZE, Frame, Kind, Reader, Reset

LINK_ID = b"sixteen bytes..."
BLOCK = bytes(range(251)) * 400


class FakeChannel:
    """
    One end of a channel, as a link sees it.

    As the real one it does not copy what it is to send before it writes it, and like the real one
    it hands on payloads that are worthless after the call.

    @ivar queue: what it was given and has not written.
    @ivar pipe: what it wrote, on its way to the other end.
    @ivar cut: what it writes goes nowhere.
    @ivar brittle: it notices that when it is given a large frame, which it writes at once.
    """

    ENOUGH = 256 * 1024
    LARGE = 16 * 1024

    def __init__(self) -> None:
        self.owner: object = None
        self.slot = self.generation = 0
        self.path = ""
        self.resting = self.failing = False
        self.rtt: float | None = None
        self.waiting: deque[object] = deque()
        self.open = True
        self.queue: deque[memoryview | bytes] = deque()
        self.pipe = bytearray()
        self.cut = False
        self.brittle = False
        self._cipher = b""
        self.other: FakeChannel = self
        self._reader = Reader()

    @classmethod
    def pair(cls) -> tuple[FakeChannel, FakeChannel]:
        """Both ends of one."""
        one, other = cls(), cls()
        one.other, other.other = other, one
        return one, other

    # For the link.

    @property
    def room(self) -> bool:
        """See L{Channel}."""
        return self.open and sum(map(len, self.queue)) < self.ENOUGH

    def send(self, frame: memoryview | bytes) -> None:
        """See L{Channel}."""
        if self.open:
            self.queue.append(frame)
            if self.brittle and len(frame) >= self.LARGE:
                self.lose()

    def flush(self) -> None:
        """See L{Channel}."""
        self.write()

    def holds(self, frame: memoryview) -> bool:
        """See L{Channel}."""
        return any(one is frame for one in self.queue)

    def close_with(self, frame: bytes) -> None:
        """See L{relaytun.link.channel.Channel}."""
        self.send(frame)
        self.flush()
        self.close()

    def rest(self) -> None:
        """See L{Channel}."""
        self.queue.clear()
        self.resting = True

    def wake(self) -> None:
        """See L{Channel}."""
        self.resting = False

    def close(self) -> None:
        """See L{Channel}."""
        self.open = False
        self.owner = None
        self.queue.clear()

    # For the test.

    def write(self, size: int | None = None) -> int:
        """Let C{size} bytes (all, if there is no number) go; as much as did."""
        done = 0
        while (self.queue or self._cipher) and done != size:
            if not self._cipher:
                self._cipher = bytes(self.queue.popleft())
            part = self._cipher[: None if size is None else size - done]
            self._cipher = self._cipher[len(part) :]
            done += len(part)
            if not self.cut:
                self.pipe += part
        if self.open and self.owner is not None and self.room and self.waiting:
            self.owner.drained(self)  # type: ignore[attr-defined]
        return done

    def take(self, size: int | None = None) -> int:
        """Receive so much of what the other end wrote; as much as did."""
        data = self.other.pipe[:size]
        del self.other.pipe[:size]
        if self.open:
            for frame in self._reader.feed(memoryview(data)):
                if frame.kind == Kind.PING:
                    self.queue.append(frames.pong(frame))
                elif frame.kind != Kind.PONG and self.owner is not None:
                    self.owner.received(self, frame)  # type: ignore[attr-defined]
                if not self.open:
                    break
        size = len(data)
        data[:] = b"\xee" * size
        return size

    def lose(self) -> None:
        """It notices that it is over."""
        owner = self.owner
        if self.open:
            self.close()
            if owner is not None:
                owner.lost(self, "the test")  # type: ignore[attr-defined]

    def read(self) -> list[Frame]:
        """What came, for a test that is the other side itself."""
        return list(self.read_lazily())

    def read_lazily(self) -> Iterator[Frame]:
        """See C{read}."""
        self.other.write()
        data = bytes(self.other.pipe)
        self.other.pipe.clear()
        for frame in self._reader.feed(memoryview(data)):
            yield frame._replace(payload=bytes(frame.payload))

    def say(self, *said: bytes) -> None:
        """Have the other end receive that."""
        for frame in said:
            self.send(frame)
        self.write()
        self.other.take()


class Program:
    """
    What is at the end of a stream; it behaves as L{SocketEnd} does.

    @ivar got: what came.
    @ivar ended: it saw the end.
    @ivar broke: it saw an error.
    @ivar hungry: it takes what comes at once.
    """

    def __init__(self, stream: Stream, memory: Memory, hungry: bool = True) -> None:
        self.stream = stream
        self.memory = memory
        self.hungry = hungry
        self.got = bytearray()
        self.untaken = 0
        self.ended = self.broke = False
        self.out = bytearray()
        self.closing = self.closed = False
        self.reading = True
        stream.attach(self)

    def write(self, data: bytes) -> Program:
        """It writes that, as far as it goes."""
        self.out += data
        self.turn()
        return self

    def close(self) -> Program:
        """It writes its last byte."""
        self.closing = True
        self.turn()
        return self

    def eat(self, size: int | None = None) -> int:
        """It takes so much of what came; as much as it did."""
        size = self.untaken if size is None else min(size, self.untaken)
        self.untaken -= size
        if size and not self.broke:
            self.stream.took(size)
        return size

    def turn(self) -> bool:
        """What the reactor would have it do; whether it did."""
        moved = False
        while self.reading and not (self.closed or self.broke) and (self.out or self.closing):
            allowance = self.stream.allowance()
            if allowance <= 0:
                self.reading = False
                return moved
            moved = True
            if self.out:
                size = min(allowance, len(self.out))
                self.memory.scratch[HEADER_SIZE : HEADER_SIZE + size] = self.out[:size]
                del self.out[:size]
                self.stream.send(size)
            else:
                self.closed = True
                self.stream.finish()
        return moved

    # For the stream.

    def deliver(self, data: memoryview) -> None:
        """See L{End}."""
        assert not self.ended and not self.broke
        self.got += data
        self.untaken += len(data)
        if self.hungry:
            self.eat()

    def finish(self) -> None:
        """See L{End}."""
        assert not self.ended and not self.broke
        self.ended = True

    def reset(self) -> None:
        """See L{End}."""
        assert not self.broke
        self.broke = True

    def read_on(self) -> None:
        """See L{End}."""
        self.reading = True


class Keeper:
    """
    Who keeps a link; each stream that is opened gets a program.

    @ivar wanted: the slots for which a channel was wanted.
    @ivar causes: with which the link ended.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.wanted: list[int] = []
        self.causes: list[Reset] = []
        self.proven: list[object] = []
        self.datagrams: list[tuple[int, bytes]] = []
        self.programs: dict[int, Program] = {}
        self.opened_streams: list[Stream] = []
        self.serve: Callable[[Stream], Program | None] = lambda stream: Program(stream, memory)

    def wants_channel(self, link: Link, slot: int) -> None:
        """See L{relaytun.link.parties.Keeper}."""
        self.wanted.append(slot)

    def opened(self, link: Link, stream: Stream) -> None:
        """See L{relaytun.link.parties.Keeper}."""
        self.opened_streams.append(stream)
        program = self.serve(stream)
        if program is not None:
            self.programs[stream.id] = program

    def ended(self, link: Link, cause: Reset) -> None:
        """See L{relaytun.link.parties.Keeper}."""
        self.causes.append(cause)

    def secured(self, link: Link, channel: object) -> None:
        """See L{relaytun.link.parties.Keeper}."""
        self.proven.append(channel)

    def datagram(self, flow: int, payload: memoryview) -> None:
        """See L{relaytun.link.link.Link.datagram_received}."""
        self.datagrams.append((flow, bytes(payload)))


class Side:
    """A process with one link."""

    def __init__(self, clock: Clock, visitor: bool, kind: type[Link] = Link) -> None:
        self.memory = Memory()
        self.keeper = Keeper(self.memory)
        self.link = kind(clock, self.keeper, self.memory, LINK_ID, "ssh", visitor)
        self.link.datagram_received = self.keeper.datagram

    @property
    def programs(self) -> dict[int, Program]:
        """Those at this side, by stream."""
        return self.keeper.programs


class Greeter:
    """A provider's process, to a channel whose visitor has not said HELLO."""

    def __init__(self, find: Callable[[Frame], Link | None]) -> None:
        """@param find: the link that is meant."""
        self._find = find

    def received(self, channel: FakeChannel, frame: Frame) -> None:
        """The first frame."""
        assert frame.kind == Kind.HELLO
        link = self._find(frame)
        if link is None:
            refuse(channel, Reset.UNKNOWN)  # type: ignore[arg-type]
        else:
            link.adopt(channel, frame)  # type: ignore[arg-type]

    def lost(self, channel: FakeChannel, why: str) -> None:
        """Nobody misses it."""


class Pair:
    """
    A visitor's link and a provider's, and the channels between them.

    @ivar ends: both ends of each channel: the visitor's, the provider's.
    """

    def __init__(self, kind: type[Link] = Link) -> None:
        self.clock = Clock()
        self.kind = kind
        self.visitor = Side(self.clock, True, kind)
        self.provider: Side | None = None
        self.ends: list[tuple[FakeChannel, FakeChannel]] = []

    @property
    def far(self) -> Side:
        """The provider's side, which there is."""
        assert self.provider is not None
        return self.provider

    def make_provider(self) -> Side:
        """A provider's process."""
        return Side(self.clock, False, self.kind)

    def dial(self, slot: int = 0, path: str = "") -> tuple[FakeChannel, FakeChannel]:
        """The visitor has a new channel, which takes that way."""
        near, far = FakeChannel.pair()
        near.path = far.path = path
        far.owner = Greeter(self._find)
        self.ends.append((near, far))
        self.visitor.link.attach(near, slot)  # type: ignore[arg-type]
        return near, far

    def open(self, hungry: bool = True) -> Program:
        """A program of the visitor's connects."""
        stream = self.visitor.link.open_stream()
        program = Program(stream, self.visitor.memory, hungry)
        self.visitor.programs[stream.id] = program
        return program

    def served(self, program: Program) -> Program:
        """What is at the provider's end of C{program}'s stream."""
        return self.far.programs[program.stream.id]

    def cut(self, *ends: FakeChannel) -> None:
        """These channels die; what is on their way is lost, and both sides notice."""
        for end in ends:
            for one in (end, end.other):
                one.cut = True
                one.pipe.clear()
        for end in ends:
            end.lose()
            end.other.lose()

    def turn(self) -> bool:
        """Everything that can be done now is; whether there was anything."""
        self.clock.advance(0)
        moved = False
        for side in (self.visitor, self.provider):
            for program in list(side.programs.values()) if side is not None else ():
                moved = program.turn() or moved
        self.clock.advance(0)
        for near, far in list(self.ends):
            for end in (near, far):
                moved = bool(end.write()) or moved
            for end in (near, far):
                moved = bool(end.take()) or moved
                if end.open and not end.other.open and not end.other.pipe:
                    end.lose()
                    moved = True
        return moved

    def settle(self) -> None:
        """Everything arrives."""
        for _ in range(10_000):
            if not self.turn():
                self.clock.advance(acks.DELAY)
                if not self.turn():
                    return
        raise AssertionError("it never comes to rest")

    def _find(self, hello: Frame) -> Link | None:
        if self.provider is None or self.provider.link.over is not None:
            if not hello.flags & frames.FRESH:
                return None
            self.provider = self.make_provider()
        return self.provider.link


class LinkCase(SynchronousTestCase):
    """A visitor's link and a provider's."""

    def setUp(self) -> None:
        self.pair = Pair()

    def connected(self) -> tuple[FakeChannel, FakeChannel]:
        """With a main channel, proven on both sides."""
        ends = self.pair.dial()
        self.pair.settle()
        return ends

    def assert_nothing_left(self) -> None:
        """Both sides are as if there had been no stream."""
        for side in (self.pair.visitor, self.pair.far):
            self.assertEqual((side.link.streams, side.memory.used), ({}, 0))
            self.assertEqual((side.link.streams._resets, side.link.carriage._stranded), ({}, {}))

    def assert_delivered(self, program: Program, sent: bytes) -> None:
        """C{program} got exactly that, and its end."""
        self.assertTrue(program.got == sent, (len(program.got), len(sent)))
        self.assertEqual((program.ended, program.broke), (True, False))
