"""
Two links and channels that are cut, late, half-open and replaced, in all the orders that
hypothesis can think of.

Whatever happens, each program reads exactly a prefix of what the other one wrote, a clean end
comes only after all of it, and once there is a working channel everything arrives and nothing is
left.  The sizes are a hundred times smaller than real ones, so that every limit is met.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from relaytun.link.link import RESUME_TIMEOUT, Link
from relaytun.link.slots import RESERVE
from relaytun.link.stream import BULK_SLOT, MAIN, Stream
from relaytun.wire.frames import Reset

from .support import FakeChannel, Pair, Program, Side

SMALLER = {
    "relaytun.link.stream.FIRST_WINDOW": 2000,
    "relaytun.link.stream.MOST_WINDOW": 8000,
    "relaytun.link.stream.REPLAY": 6000,
    "relaytun.link.stream.BULK": 1500,
    "relaytun.link.stream.PAYLOAD": 1000,
    "relaytun.link.stream.TRICKLE": 100,
    "relaytun.link.memory.SMALL": 300,
    "relaytun.link.stream.SMALL": 300,
    "relaytun.link.memory.CHUNK": 1024,
    "relaytun.wire.frames.PROBE": 100,
}
CAP = 20_000
ENOUGH = 3000
LARGE = 400
MOST_CHANNELS = 5
MOST_STREAMS = 4
#: What happened, over all runs.
SEEN: Counter[str] = Counter()

_PERIOD = 32749
_BYTES = random.Random(1).randbytes(_PERIOD) * 2


def pattern(stream: int, visitor: bool, begin: int, size: int) -> bytes:
    """What is written on C{stream} by that side, from C{begin} on."""
    place = (begin + stream * 5003 + visitor * 1009) % _PERIOD
    return _BYTES[place : place + size]


class CountedStream(Stream):
    """A stream that counts what the tests are about."""

    def data(self, offset: int, data: memoryview, ack_now: bool) -> None:
        """See L{Stream}."""
        if offset < self.received:
            SEEN["overlap"] += 1
        super().data(offset, data, ack_now)

    def acknowledged(self, received: int, limit: int) -> None:
        """See L{Stream}."""
        before = self.slot
        super().acknowledged(received, limit)
        if (before, self.slot) == (MAIN, BULK_SLOT):
            SEEN["migration"] += 1

    def rewind(self) -> None:
        """See L{Stream}."""
        if self._sent and self.end is not None:
            SEEN["replay"] += 1
        super().rewind()


class StrictLink(Link):
    """A link that has no reason to find that the other one breaks the rules."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        break_it = self.streams.broken

        def broken(stream: Stream, cause: Reset, tell: bool) -> None:
            assert cause is not Reset.PROTOCOL
            break_it(stream, cause, tell)

        self.streams.broken = broken  # type: ignore[method-assign]

    def close(self, cause: Reset) -> None:
        """See L{Link}."""
        assert cause is not Reset.PROTOCOL
        super().close(cause)


class Talker(Program):
    """
    A program that writes its pattern.

    @ivar wrote: how much it wants to have written.
    """

    def __init__(self, stream: Stream, side: Side, visitor: bool) -> None:
        self.visitor = visitor
        self.wrote = 0
        self.peer: Talker | None = None
        super().__init__(stream, side.memory, hungry=False)

    def talk(self, size: int) -> None:
        """It writes C{size} bytes more."""
        if not (self.closing or self.broke):
            self.out += pattern(self.stream.id, self.visitor, self.wrote, size)
            self.wrote += size
            self.turn()

    def deliver(self, data: memoryview) -> None:
        """It reads what the other one wrote."""
        expected = pattern(self.stream.id, not self.visitor, len(self.got), len(data))
        assert data == expected[: len(data)] and len(expected) == len(data), "other bytes"
        super().deliver(data)
        assert self.peer is None or len(self.got) <= self.peer.wrote

    def finish(self) -> None:
        """It reads the end."""
        super().finish()
        if self.peer is not None:
            assert self.peer.closed and len(self.got) == self.peer.wrote, "too early an end"


class World(Pair):
    """
    A pair with talkers.

    @ivar hungry: whether new ones take what comes at once.
    """

    def __init__(self) -> None:
        super().__init__(StrictLink)
        self.visitor.memory.cap = CAP
        self.talkers: list[Talker] = []
        self.hungry = False

    def open_talker(self) -> None:
        """A program of the visitor's connects."""
        stream = self.visitor.link.open_stream()
        talker = Talker(stream, self.visitor, True)
        self.visitor.programs[stream.id] = talker
        talker.hungry = self.hungry
        self.talkers.append(talker)

    def make_provider(self) -> Side:
        """A provider's process, at whose service there are talkers."""
        side = super().make_provider()
        side.memory.cap = CAP

        def serve(stream: Stream) -> Talker:
            talker = Talker(stream, side, False)
            talker.hungry = self.hungry
            talker.peer = self.visitor.programs.get(stream.id)  # type: ignore[assignment]
            if talker.peer is not None:
                talker.peer.peer = talker
            self.talkers.append(talker)
            return talker

        side.keeper.serve = serve
        return side


class LinkMachine(RuleBasedStateMachine):
    """Programs and channels come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = [mock.patch(name, value) for name, value in SMALLER.items()]
        self.patches.append(mock.patch("relaytun.link.streams.Stream", CountedStream))
        self.patches.append(mock.patch.multiple(FakeChannel, ENOUGH=ENOUGH, LARGE=LARGE))
        for patch in self.patches:
            patch.start()
        self.world = World()

    def choose(self, data: st.DataObject, among: list[Any]) -> Any:
        """One of them, or None if there is none."""
        return data.draw(st.sampled_from(among)) if among else None

    @property
    def ends(self) -> list[FakeChannel]:
        """Both ends of all channels that are not forgotten."""
        return [end for pair in self.world.ends for end in pair]

    # Programs.

    @initialize(
        slots=st.lists(st.sampled_from([MAIN, BULK_SLOT]), max_size=3),
        hungry=st.booleans(),
        sizes=st.lists(st.integers(0, 9000), max_size=3),
        rounds=st.integers(0, 4),
        direct=st.booleans(),
    )
    def begin(
        self, slots: list[int], hungry: bool, sizes: list[int], rounds: int, direct: bool
    ) -> None:
        """Often there is something already."""
        self.world.hungry = hungry
        for slot in slots:
            self.world.dial(slot)
        if slots and direct:
            self.world.settle()
            self.go_direct(reserve=False)
        for size in sizes:
            self.world.open_talker()
            self.world.talkers[-1].talk(size)
        self.run(rounds)

    @rule()
    def open(self) -> None:
        """A program connects."""
        link = self.world.visitor.link
        if link.over is None and len(link.streams) < MOST_STREAMS:
            self.world.open_talker()

    @rule(data=st.data(), size=st.integers(1, 6000))
    def write(self, data: st.DataObject, size: int) -> None:
        """One writes."""
        talker = self.choose(data, self.world.talkers)
        if talker is not None:
            talker.talk(size)

    @rule(data=st.data(), size=st.integers(1, 6000))
    def read(self, data: st.DataObject, size: int) -> None:
        """One takes some of what came."""
        talker = self.choose(data, [one for one in self.world.talkers if one.untaken])
        if talker is not None:
            talker.eat(size)

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        """One writes its last byte."""
        talker = self.choose(data, self.world.talkers)
        if talker is not None and not talker.broke:
            talker.close()

    @rule(data=st.data(), unlikely=st.integers(0, 3))
    def reset(self, data: st.DataObject, unlikely: int) -> None:
        """One breaks."""
        talker = self.choose(data, self.world.talkers)
        if talker is not None and not unlikely and not (talker.ended and talker.closed):
            talker.stream.reset(Reset.PROGRAM)

    # Channels.

    @rule(slot=st.sampled_from([MAIN, BULK_SLOT]))
    def dial(self, slot: int) -> None:
        """The visitor has a new channel."""
        if len(self.world.ends) < MOST_CHANNELS and self.world.visitor.link.over is None:
            self.world.dial(slot)

    @rule(reserve=st.booleans())
    def go_direct(self, reserve: bool) -> None:
        """It does without the relay, or has a channel in reserve for the time when it does not."""
        link = self.world.visitor.link
        secured = link._welcomed and link.connected  # Before that nobody has the keys to meet.
        if len(self.world.ends) < MOST_CHANNELS and link.over is None and secured:
            if not reserve:
                SEEN["direct"] += 1
                self.world.dial(MAIN, "lan")
            elif link.path:
                self.world.dial(RESERVE)

    @rule(size=st.integers(0, 1500))
    def direct_in_vain(self, size: int) -> None:
        """It would, but the channel is lost again, when the provider may have heard of it."""
        before = len(self.world.ends)
        self.go_direct(reserve=False)
        for near, far in self.world.ends[before:]:
            near.write(size)
            far.take()
            self.world.cut(near)

    @rule()
    def fall_back(self) -> None:
        """It does not any more."""
        link = self.world.visitor.link
        if link.over is None and link.fall_back() is not None:
            SEEN["fall back"] += 1

    @rule(data=st.data(), size=st.integers(0, 8000))
    def write_out(self, data: st.DataObject, size: int) -> None:
        """An end of a channel writes some of what it has."""
        end = self.choose(data, self.ends)
        if end is not None:
            end.write(size)

    @rule(data=st.data(), size=st.integers(1, 8000))
    def arrive(self, data: st.DataObject, size: int) -> None:
        """Some bytes arrive."""
        end = self.choose(data, [one for one in self.ends if one.other.pipe])
        if end is not None:
            end.take(size)

    @rule(rounds=st.integers(1, 6))
    def run(self, rounds: int) -> None:
        """All is well for a while."""
        for _ in range(rounds):
            self.world.clock.advance(0.05)
            for end in self.ends:
                end.write()
            for end in self.ends:
                end.take()
            self.programs_turn()

    @rule(hungry=st.booleans())
    def appetite(self, hungry: bool) -> None:
        """From now on programs take what comes at once, or do not."""
        self.world.hungry = hungry
        for talker in self.world.talkers:
            talker.hungry = hungry

    @rule(
        data=st.data(),
        kept=st.integers(0, 3000),
        other=st.integers(0, 3000),
        brittle=st.booleans(),
    )
    def cut(self, data: st.DataObject, kept: int, other: int, brittle: bool) -> None:
        """A channel breaks: of what is on its way so much still arrives; nobody has noticed."""
        pair = self.choose(data, self.world.ends)
        if pair is not None:
            for end, size in zip(pair, (kept, other), strict=True):
                del end.pipe[size:]
                end.cut = True
                end.brittle = brittle

    @rule(data=st.data())
    def notice(self, data: st.DataObject) -> None:
        """An end notices that its channel is broken, or closed by the other end."""
        end = self.choose(
            data, [one for one in self.ends if one.open and (one.cut or not one.other.open)]
        )
        if end is not None:
            end.lose()

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """A channel that nobody has any more brings nothing any more."""
        pair = self.choose(
            data, [pair for pair in self.world.ends if not (pair[0].open or pair[1].open)]
        )
        if pair is not None:
            self.world.ends.remove(pair)

    # The rest of the world.

    @rule(seconds=st.sampled_from([0.0, 0.02, 0.05, 1.0]))
    def time(self, seconds: float) -> None:
        """Time passes."""
        self.world.clock.advance(seconds)
        self.programs_turn()

    @rule(unlikely=st.integers(0, 15))
    def much_time(self, unlikely: int) -> None:
        """Nothing happens for a long time."""
        if not unlikely:
            self.world.clock.advance(RESUME_TIMEOUT / 2)

    @rule(unlikely=st.integers(0, 15))
    def provider_dies(self, unlikely: int) -> None:
        """The provider's process is killed, and its programs with it."""
        world = self.world
        if unlikely or world.provider is None:
            return
        SEEN["death"] += 1
        for near, far in world.ends:
            far.cut = True
            far.close()
            near.cut = True
        for talker in world.provider.programs.values():
            if isinstance(talker, Talker) and talker.peer is not None:
                talker.peer.peer = None
        world.provider.link.close(Reset.SHUTDOWN)  # Nobody hears that.
        world.provider = None

    def programs_turn(self) -> None:
        """The reactor's turn for them."""
        for talker in self.world.talkers:
            talker.turn()

    # What holds.

    @invariant()
    def counts(self) -> None:
        """No stream is ahead of itself, and no channel carries that is not open."""
        for side in filter(None, (self.world.visitor, self.world.provider)):
            link = side.link
            for stream in link.streams.values():
                assert stream.acked <= stream.written + 1
                assert stream.consumed <= stream.received <= stream.announced
            for channel in link.channels.all:
                assert channel.open and channel.owner is link
            assert link.over is not None or link.connected or link._patience is not None
            assert side.memory.used >= 0

    def teardown(self) -> None:
        """With a channel that works everything comes to its end."""
        try:
            self.come_to_rest()
        finally:
            for patch in self.patches:
                patch.stop()

    def come_to_rest(self) -> None:
        """See C{teardown}."""
        world = self.world
        if world.visitor.link.over is None:
            world.hungry = True
            for talker in world.talkers:
                talker.hungry = True
            for pair in world.ends:
                if any(end.cut or not end.open for end in pair):
                    for end in pair:
                        end.cut = True
                        end.pipe.clear()
                    for end in pair:
                        end.lose()
            for talker in world.talkers:
                talker.eat()
            world.settle()
            if not world.visitor.link.connected:
                world.dial(MAIN)
                world.settle()
            for talker in world.talkers:
                if not talker.broke:
                    talker.close()
            world.settle()
        if world.visitor.link.over is not None:
            SEEN["over"] += 1
            world.settle()
            world.clock.advance(2 * RESUME_TIMEOUT)
            world.settle()
        sides = [side for side in (world.visitor, world.provider) if side is not None]
        for talker in world.talkers:
            assert talker.broke or (talker.ended and talker.closed), "neither ended nor broken"
            other = talker.peer
            if other is not None and not talker.broke and not other.broke:
                assert len(talker.got) == other.wrote
        for side in sides:
            link = side.link
            assert not link.streams and not side.memory.used
            if link.over is None:
                assert not link.carriage._stranded
                assert not link.streams._resets and not link.streams._acks._streams
                SEEN["quiet"] += 1
            link.close(Reset.SHUTDOWN)
        assert not world.clock.getDelayedCalls()


class LinkMachineTests(SynchronousTestCase):
    """The machine, for a few seconds."""

    def test_any_order(self) -> None:
        """Whatever comes and goes in whatever order: no byte is lost, doubled or made up."""
        SEEN.clear()
        run_state_machine_as_test(
            LinkMachine,
            settings=settings(
                max_examples=250,
                stateful_step_count=50,
                suppress_health_check=list(HealthCheck),
            ),
        )
        wanted = "replay", "overlap", "migration", "death", "over", "quiet", "direct", "fall back"
        for what in wanted:
            self.assertGreater(SEEN[what], 3, SEEN)
