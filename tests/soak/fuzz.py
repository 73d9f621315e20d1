"""
A hostile other side: bytes for the decoder of frames, and frames for a link.

Whatever comes, the decoder answers with frames or with a WireError, and the link with a reset of a
stream or with its own end; neither raises anything else, and what they hold is bounded.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from unittest import mock

from twisted.internet.task import Clock

from relaytun.link import stream as streams
from relaytun.link.link import Link
from relaytun.link.memory import CHUNK, Memory
from relaytun.wire import frames
from relaytun.wire.errors import WireError
from relaytun.wire.frames import HEADER, HEADER_SIZE, Frame, Kind, Reader, Reset, header

from ..link.support import LINK_ID, FakeChannel, Keeper, Program

MOST_STREAMS = 20
CAP = 4 * CHUNK
_EDGES = (0, 1, 2, 23, 255, 2**16, 2**32 - 1, 2**32, 2**63, 2**64 - 2, 2**64 - 1)


def run_for(seconds: float, seed: int) -> Counter[str]:
    """
    Be hostile for that long.

    @return: how often what happened.
    @raise AssertionError: if something happened that must not.
    """
    dice = random.Random(seed)
    seen: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with mock.patch("relaytun.link.streams.MOST_STREAMS", MOST_STREAMS):
        while time.monotonic() < end:
            for _ in range(20):
                hostile_bytes(dice, seen)
            HostileSide(dice, seen).talk()
    return seen


def hostile_bytes(dice: random.Random, seen: Counter[str]) -> None:
    """Frames that are damaged here and there, cut anywhere."""
    data = bytearray()
    for _ in range(dice.randrange(1, 8)):
        size = dice.choice((0, 1, 8, 8, 17, 80, 81, dice.randrange(3000)))
        kind = dice.randrange(0, 14)
        length = size if dice.random() < 0.9 else dice.getrandbits(32)
        data += HEADER.pack(kind, dice.randrange(256), 0, length, *(dice.choices(_EDGES, k=2)))
        data += dice.randbytes(size)
    for _ in range(dice.choice((0, 0, 1, 5))):
        data[dice.randrange(len(data))] = dice.randrange(256)
    reader = Reader()
    try:
        while data:
            cut = dice.randrange(1, 200)
            for frame in reader.feed(memoryview(bytes(data[:cut]))):
                assert Kind(frame.kind) and len(frame.payload) <= frames.MAX_DATA
                seen["frames"] += 1
            assert len(reader._partial) <= HEADER_SIZE + frames.MAX_OTHER
            del data[:cut]
    except WireError:
        seen["no frame"] += 1


class HostileSide:
    """It got through the handshake, says HELLO, and then anything."""

    def __init__(self, dice: random.Random, seen: Counter[str]) -> None:
        self.dice = dice
        self.seen = seen
        self.clock = Clock()
        self.memory = Memory(CAP)
        self.keeper = Keeper(self.memory)
        self.visitor = dice.random() < 0.5
        self.generation = 0
        self.link = Link(
            self.clock,
            self.keeper,  # type: ignore[arg-type]
            self.memory,
            LINK_ID,
            "ssh",
            self.visitor,
        )
        self.programs: list[Program] = []
        self.keeper.serve = self.serve
        self.channels: list[FakeChannel] = []

    def serve(self, stream: streams.Stream) -> Program | None:
        """Some services cannot be reached, some are slow to come."""
        choice = self.dice.randrange(6)
        if not choice:
            stream.reset(Reset.SERVICE)
        if choice < 3:
            return None
        self.programs.append(Program(stream, self.memory, hungry=choice > 3))
        return self.programs[-1]

    def talk(self) -> None:
        """Say many things, and look at what the link makes of them."""
        for _ in range(self.dice.randrange(50, 400)):
            if self.link.over is not None:
                break
            self.dice.choice((self.say, self.say, self.say, self.say, self.live))()
            self.look()
        if self.link.over is not None:
            self.seen[f"ended by {self.link.over.name}"] += 1
        self.link.close(Reset.SHUTDOWN)
        assert not self.link.streams and not self.memory.used
        assert not self.clock.getDelayedCalls()
        assert all(program.broke or program.ended for program in self.programs)

    def live(self) -> None:
        """This side does what it does."""
        dice = self.dice
        if len(self.channels) < 2 or not dice.randrange(10):
            self.connect()
        if self.visitor and len(self.link.streams) < MOST_STREAMS and not dice.randrange(3):
            self.programs.append(Program(self.link.open_stream(), self.memory))
        if self.programs:
            program = dice.choice(self.programs)
            if not program.broke and not program.closed:
                program.write(bytes(dice.choice((1, 5000, 300_000))))
                if not dice.randrange(5):
                    program.close()
            program.eat()
        if not dice.randrange(50):
            self.clock.advance(60)
        self.clock.advance(dice.choice((0, 0.1)))
        for program in self.programs:
            program.turn()

    def connect(self) -> None:
        """A new channel."""
        near, far = FakeChannel.pair()
        self.channels.append(far)
        slot = self.dice.randrange(2)
        if self.visitor:
            self.link.attach(near, slot)  # type: ignore[arg-type]
            return
        self.generation += self.dice.choice((0, 1, 1, 1))
        slot = self.dice.choice((slot, slot, slot, slot, 2, 2**64 - 1))
        hello = Frame(Kind.HELLO, 1, slot, self.generation, LINK_ID + b"ssh")
        self.link.adopt(near, hello)  # type: ignore[arg-type]

    def say(self) -> None:
        """A few frames on one of the channels; some of them make sense."""
        if not self.channels:
            self.connect()
        far = self.dice.choice(self.channels[-3:])
        said = b"".join(self.something() for _ in range(self.dice.randrange(1, 10)))
        with contextlib.suppress(WireError):
            far.pipe += said
            far.other.take()

    def something(self) -> bytes:
        """A frame."""
        dice = self.dice
        kind = dice.choice((*Kind, Kind.OPEN, Kind.DATA, Kind.DATA, Kind.ACK))
        number = dice.choice((dice.randrange(30), *self.link.streams, dice.choice(_EDGES)))
        if kind == Kind.OPEN and dice.random() < 0.95:
            number = dice.randrange(1, 60)
        stream = self.link.streams.get(number)
        if kind == Kind.RST:
            number = number or dice.choice((0, 1, 1, 1, 1, 1, 1, 1))
            return header(kind, number, dice.choice((*Reset, 77)))
        payload = b""
        value = dice.choice(_EDGES)
        if stream is not None and dice.random() < 0.8:
            value = stream.received + dice.choice((0, 0, 0, 0, -1, 1))
            if kind == Kind.ACK:
                value = dice.choice((stream.acked, stream._sent_to, stream.written + 1))
        if kind == Kind.ACK:
            payload = dice.choice((dice.choice(_EDGES), value + 100_000)).to_bytes(9, "big")[-8:]
        elif kind == Kind.DATA:
            payload = bytes(dice.choice((1, 10, 3000, 100_000)))
        elif kind == Kind.HELLO:
            payload = LINK_ID + b"ssh"
        elif kind == Kind.DATAGRAM:
            payload = bytes(dice.choice((0, 100)))
        flags = dice.choice((0, 0, 1, 255))
        return header(kind, number, value % 2**64, flags, len(payload)) + payload

    def look(self) -> None:
        """What the link holds is bounded; what it says is thrown away."""
        link = self.link
        for far in self.channels:
            far.other.write()
            self.seen["answers"] += bool(far.other.pipe)
            far.other.pipe.clear()
        self.channels = [far for far in self.channels if far.other.open]
        assert len(link.streams) <= MOST_STREAMS
        assert link.over is not None or len(link.streams._resets) <= MOST_STREAMS
        assert len(link.carriage._stranded) <= len(link.streams)
        assert self.memory.used <= CAP + MOST_STREAMS * CHUNK
        for stream in link.streams.values():
            assert sum(map(len, stream._early)) <= streams.FIRST_WINDOW
            assert stream.received - stream.consumed <= streams.MOST_WINDOW
        self.programs = [program for program in self.programs if program.stream.id in link.streams]
        self.seen["steps"] += 1
