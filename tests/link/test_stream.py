"""
Tests of L{relaytun.link.stream} and L{relaytun.link.memory}: a link at one end of a channel, the
test itself at the other.
"""

from __future__ import annotations

from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.link import acks, memory as memory_module
from relaytun.link.link import Link
from relaytun.link.memory import CHUNK, PAYLOAD, SMALL, TRICKLE, Memory
from relaytun.link.stream import BULK, BULK_SLOT, FIRST_WINDOW, MAIN, MOST_WINDOW, REPLAY
from relaytun.wire import frames
from relaytun.wire.frames import ACK_NOW, HEADER_SIZE, LINK_ID_SIZE, Frame, Kind, Reset, header

from .support import LINK_ID, FakeChannel, Keeper, Program

#: More than anybody's window.
FAR = 2**40


def data(stream: int, offset: int, payload: bytes, flags: int = 0) -> bytes:
    """A DATA frame."""
    return header(Kind.DATA, stream, offset, flags, len(payload)) + payload


class StreamCase(SynchronousTestCase):
    """A link, and the other side of its main channel."""

    visitor = True
    cap = memory_module.CAP

    def setUp(self) -> None:
        self.clock = Clock()
        self.memory = Memory(self.cap)
        self.keeper = Keeper(self.memory)
        self.link = Link(
            self.clock,
            self.keeper,  # type: ignore[arg-type]
            self.memory,
            LINK_ID,
            "ssh",
            self.visitor,
        )
        self.far = self.channel(MAIN)
        self.hear()

    def channel(self, slot: int) -> FakeChannel:
        """A new channel; @return: the other side's end."""
        near, far = FakeChannel.pair()
        if self.visitor:
            self.link.attach(near, slot)  # type: ignore[arg-type]
            far.say(header(Kind.WELCOME, slot, near.generation), header(Kind.RESUME))
        else:
            generation = self.generations[slot] = self.generations.get(slot, 0) + 1
            hello = Frame(Kind.HELLO, 1, slot, generation, LINK_ID + b"ssh")
            self.link.adopt(near, hello)  # type: ignore[arg-type]
            far.say(header(Kind.RESUME))
        return far

    @property
    def generations(self) -> dict[int, int]:
        """The last of each slot."""
        return self.__dict__.setdefault("_generations", {})

    def program(self, hungry: bool = True) -> Program:
        """A program of this side, and its stream."""
        return Program(self.link.open_stream(), self.memory, hungry)

    def hear(self, far: FakeChannel | None = None) -> list[Frame]:
        """What this side says."""
        self.clock.advance(0)
        return (far or self.far).read()

    def hear_out(self, program: Program, far: FakeChannel | None = None) -> list[Frame]:
        """What this side says until C{program} has nothing more that it could say."""
        said: list[Frame] = []
        while more := self.hear(far):
            said += more
            program.turn()
        return said

    def kinds(self, said: list[Frame]) -> list[int]:
        """Of frames."""
        return [frame.kind for frame in said]

    def payload(self, said: list[Frame]) -> bytes:
        """Of all DATA."""
        return b"".join(bytes(frame.payload) for frame in said if frame.kind == Kind.DATA)

    def assert_reset(self, program: Program, cause: Reset, far: FakeChannel | None = None) -> None:
        """The stream was reset, at both ends, and is no more."""
        last = self.hear(far)[-1]
        self.assertEqual(last[:4], (Kind.RST, 0, program.stream.id, cause))
        self.assertTrue(program.broke)
        self.assertNotIn(program.stream.id, self.link.streams)


class SendingTests(StreamCase):
    """What a program writes."""

    def test_no_round_trip(self) -> None:
        """A stream's first bytes and its end go out right behind its OPEN."""
        self.program().write(b"GET /").close()
        said = self.hear()
        self.assertEqual(
            [frame[:4] for frame in said],
            [(Kind.OPEN, 0, 1, 0), (Kind.DATA, 0, 1, 0), (Kind.FIN, 0, 1, 5)],
        )
        self.assertEqual(self.payload(said), b"GET /")

    def test_numbers(self) -> None:
        """Each stream has a number of its own, from one on, never again."""
        one, two = self.program(), self.program()
        one.stream.reset(Reset.PROGRAM)
        three = self.program()
        self.assertEqual([one.stream.id, two.stream.id, three.stream.id], [1, 2, 3])

    @mock.patch("relaytun.link.stream.SMALL", 0)
    def test_credit(self) -> None:
        """No byte is sent beyond the limit, and each that the limit allows is."""
        program = self.program().write(bytes(2 * FIRST_WINDOW))
        self.assertEqual(len(self.payload(self.hear_out(program))), FIRST_WINDOW)
        self.far.say(frames.ack(1, FIRST_WINDOW, FIRST_WINDOW + 10))
        program.turn()
        self.assertEqual(len(self.payload(self.hear())), 10)

    def test_no_slivers(self) -> None:
        """While bytes are on their way, less than a small chunk waits until more may be sent."""
        program = self.program().write(bytes(2 * FIRST_WINDOW))
        sent = len(self.payload(self.hear_out(program)))
        self.assertLess(FIRST_WINDOW - sent, SMALL)
        self.assertGreater(FIRST_WINDOW - sent, 0)
        self.far.say(frames.ack(1, sent - 1, FIRST_WINDOW))
        program.turn()
        self.assertEqual(self.payload(self.hear()), b"")
        self.far.say(frames.ack(1, sent, FIRST_WINDOW))
        program.turn()
        self.assertEqual(len(self.payload(self.hear())), FIRST_WINDOW - sent)

    @mock.patch("relaytun.link.stream.SMALL", 0)
    def test_limit_never_sinks(self) -> None:
        """A limit that is lower than the last one changes nothing."""
        program = self.program()
        self.far.say(frames.ack(1, 0, FIRST_WINDOW + 10), frames.ack(1, 0, 5))
        program.write(bytes(2 * FIRST_WINDOW))
        self.assertEqual(len(self.payload(self.hear_out(program))), FIRST_WINDOW + 10)

    @mock.patch("relaytun.link.stream.SMALL", 0)
    def test_replay_limit(self) -> None:
        """However high the limit, no more is sent than what is kept."""
        program = self.program()
        self.far.say(frames.ack(1, 0, FAR))
        program.write(bytes(REPLAY + 1000))
        self.assertEqual(len(self.payload(self.hear_out(program))), REPLAY)
        self.far.say(frames.ack(1, 400, FAR))
        program.turn()
        self.assertEqual(len(self.payload(self.hear())), 400)

    def test_impossible_ack(self) -> None:
        """Who acknowledges what was never sent, breaks the rules."""
        program = self.program().write(b"12345")
        self.far.say(frames.ack(1, 5, FAR))
        self.assertFalse(program.broke)
        self.far.say(frames.ack(1, 6, FAR))
        self.assert_reset(program, Reset.PROTOCOL)

    def test_ack_of_no_end(self) -> None:
        """The end is one more byte: acknowledged before it is sent, it is an impossible ack."""
        program = self.program().write(b"1").close()
        self.far.say(frames.ack(1, 2, FAR))
        self.assertFalse(program.broke)
        self.far.say(frames.ack(1, 3, FAR))
        self.assert_reset(program, Reset.PROTOCOL)

    def test_old_ack(self) -> None:
        """An ack that is overtaken by a newer one takes nothing back."""
        program = self.program().write(b"12345")
        self.far.say(frames.ack(1, 5, FAR), frames.ack(1, 3, FAR))
        self.assertEqual(program.stream.acked, 5)
        self.assertEqual(self.memory.used, 0)

    def test_half_close(self) -> None:
        """A program that wrote its last byte still gets what the other one writes, and its end."""
        program = self.program().write(b"question").close()
        self.far.say(frames.ack(1, 9, FAR))
        self.far.say(data(1, 0, b"answer"))
        self.assertEqual((program.got, program.ended), (b"answer", False))
        self.far.say(header(Kind.FIN, 1, 6))
        self.assertTrue(program.ended)
        self.assertNotIn(1, self.link.streams)

    def test_reset_by_program(self) -> None:
        """A program that breaks resets its stream, until the other side says that it knows."""
        program = self.program().write(b"12345")
        program.stream.reset(Reset.PROGRAM)
        self.assert_reset(program, Reset.PROGRAM)
        self.assertEqual(self.memory.used, 0)
        again = self.channel(MAIN)
        self.assertIn((Kind.RST, 0, 1, Reset.PROGRAM), [frame[:4] for frame in again.read()])
        again.say(header(Kind.RST, 1, Reset.OVER))
        self.assertNotIn(Kind.RST, self.kinds(self.channel(MAIN).read()))

    def test_reset_by_peer(self) -> None:
        """The other side's reset breaks the program, and is confirmed each time it comes."""
        program = self.program()
        self.hear()
        for _ in range(2):
            self.far.say(header(Kind.RST, 1, Reset.SERVICE))
            self.assertEqual([frame[:4] for frame in self.hear()], [(Kind.RST, 0, 1, Reset.OVER)])
        self.assertTrue(program.broke)
        self.assertEqual(self.link.streams, {})

    def test_reset_for_no_cause(self) -> None:
        """A cause that there is not is a reset like the others."""
        program = self.program()
        self.far.say(header(Kind.RST, 1, 2**64 - 1))
        self.assertTrue(program.broke)

    def test_forgotten_by_peer(self) -> None:
        """A stream that the other side has forgotten ends in order only if it was complete."""
        complete, torn = self.program().write(b"x").close(), self.program().write(b"x").close()
        self.far.say(data(1, 0, b"y"), header(Kind.FIN, 1, 1), header(Kind.RST, 1, Reset.OVER))
        self.assertEqual((complete.ended, complete.broke), (True, False))
        self.far.say(data(2, 0, b"y"), header(Kind.RST, 2, Reset.OVER))
        self.assertEqual((torn.ended, torn.broke), (False, True))
        self.assertEqual((self.link.streams, self.memory.used), ({}, 0))

    def test_a_full_channel(self) -> None:
        """When the channel has no room the program waits; when it has, it goes on by itself."""
        program = self.program()
        self.far.say(frames.ack(1, 0, FAR))
        near = self.far.other
        program.write(bytes(4 * FakeChannel.ENOUGH))
        self.assertFalse(near.room)
        self.assertLess(sum(map(len, near.queue)), FakeChannel.ENOUGH + CHUNK)
        self.assertFalse(program.reading)
        self.hear()
        self.assertTrue(program.reading)

    def test_stalled_end(self) -> None:
        """An end that finds no room waits for it, and is sent once."""
        program = self.program()
        self.far.say(frames.ack(1, 0, FAR))
        program.write(bytes(FakeChannel.ENOUGH))
        program.closed = True
        program.stream.finish()
        program.stream.finish()
        self.assertEqual(self.kinds(self.hear_out(program)).count(Kind.FIN), 1)


class ReceivingTests(StreamCase):
    """What the other side sends."""

    def setUp(self) -> None:
        super().setUp()
        self.it = self.program()
        self.hear()

    def acks(self) -> list[tuple[int, int]]:
        """What this side acknowledges: received, limit."""
        return [(frame.value, frame.limit) for frame in self.hear() if frame.kind == Kind.ACK]

    def test_gap(self) -> None:
        """A gap is never bridged: the stream is reset."""
        self.far.say(data(1, 0, b"abc"), data(1, 4, b"e"))
        self.assertEqual(self.it.got, b"abc")
        self.assert_reset(self.it, Reset.PROTOCOL)

    def test_overlap(self) -> None:
        """What came before is trimmed, wherever the new part begins."""
        for offset, payload in [(0, b"abc"), (0, b"abc"), (1, b"bcd"), (0, b"ab"), (3, b"def")]:
            self.far.say(data(1, offset, payload))
        self.assertEqual(self.it.got, b"abcdef")

    def test_beyond_the_limit(self) -> None:
        """Up to the limit everything is taken; one byte beyond is against the rules."""
        self.it.hungry = False
        self.far.say(data(1, 0, bytes(FIRST_WINDOW)))
        self.assertEqual(len(self.it.got), FIRST_WINDOW)
        self.assertFalse(self.it.broke)
        self.far.say(data(1, FIRST_WINDOW, b"x"))
        self.assert_reset(self.it, Reset.PROTOCOL)

    def test_end_in_the_wrong_place(self) -> None:
        """An end before or behind the last byte is against the rules."""
        self.far.say(data(1, 0, b"abc"), header(Kind.FIN, 1, 2))
        self.assert_reset(self.it, Reset.PROTOCOL)
        other = self.program()
        self.far.say(data(2, 0, b"abc"), header(Kind.FIN, 2, 4))
        self.assert_reset(other, Reset.PROTOCOL)
        self.assertFalse(self.it.ended or other.ended)

    def test_data_after_the_end(self) -> None:
        """There is nothing behind an end."""
        self.far.say(data(1, 0, b"abc"), header(Kind.FIN, 1, 3), data(1, 0, b"abc"))
        self.assertEqual((self.it.got, self.it.ended, self.it.broke), (b"abc", True, False))
        self.far.say(data(1, 3, b"d"))
        self.assert_reset(self.it, Reset.PROTOCOL)

    def test_end_twice(self) -> None:
        """An end that comes again is acknowledged again, and is seen once."""
        self.far.say(header(Kind.FIN, 1, 0))
        self.clock.advance(acks.DELAY)
        self.assertEqual([received for received, _ in self.acks()], [1])
        self.far.say(header(Kind.FIN, 1, 0))
        self.clock.advance(acks.DELAY)
        self.assertEqual([received for received, _ in self.acks()], [1])

    def test_end_is_acknowledged_where_it_came(self) -> None:
        """
        The ack of an end, after which a stream may be forgotten, is lost only with the channel
        over which the end then comes again.
        """
        bulk = self.channel(BULK_SLOT)
        bulk.read()
        self.hear()
        for _ in range(2):
            bulk.say(header(Kind.FIN, 1, 0))
            said = [frame[:4] for frame in bulk.read()]
            self.assertEqual(said, [(Kind.ACK, 0, 1, 1)])

    def test_told_on_a_channel_that_came_to_nothing(self) -> None:
        """What was told on a channel that is not proven yet does not count as told."""
        self.it.close()
        self.hear()
        self.far.say(header(Kind.FIN, 1, 0))
        unproven, _ = FakeChannel.pair()
        self.link.attach(unproven, BULK_SLOT)  # type: ignore[arg-type]
        self.far.say(frames.ack(1, 1, FAR))
        self.assertNotIn(1, self.link.streams)
        self.assertIn((Kind.ACK, 0, 1, 1), [frame[:4] for frame in self.hear()])

    def test_acks_wait_a_little(self) -> None:
        """A few bytes are acknowledged a little later, all together, unless it is urgent."""
        self.it.hungry = False
        self.far.say(data(1, 0, b"a"), data(1, 1, b"b"))
        self.assertEqual(self.acks(), [])
        self.clock.advance(acks.DELAY)
        self.assertEqual(self.acks(), [(2, FIRST_WINDOW)])
        self.far.say(data(1, 2, b"c", ACK_NOW))
        self.assertEqual(self.acks(), [(3, FIRST_WINDOW)])
        self.far.say(data(1, 3, bytes(FIRST_WINDOW // 4)))
        self.assertEqual(self.acks(), [(3 + FIRST_WINDOW // 4, FIRST_WINDOW)])

    def test_urgent_duplicate(self) -> None:
        """DATA that came before, sent again and urgently, is acknowledged at once."""
        self.far.say(data(1, 0, b"a"))
        self.clock.advance(acks.DELAY)
        self.acks()
        self.far.say(data(1, 0, b"a", ACK_NOW))
        self.assertEqual([received for received, _ in self.acks()], [1])

    def test_limit_follows_the_program(self) -> None:
        """The limit rises with what the program takes, not with what comes."""
        self.it.hungry = False
        self.far.say(data(1, 0, bytes(FIRST_WINDOW)))
        self.assertEqual(self.acks(), [(FIRST_WINDOW, FIRST_WINDOW)])
        self.it.eat(10)
        self.assertEqual(self.acks(), [])
        self.it.eat(FIRST_WINDOW // 4)
        self.assertEqual(self.acks(), [(FIRST_WINDOW, FIRST_WINDOW + 10 + FIRST_WINDOW // 4)])

    def test_window_growth(self) -> None:
        """While the program keeps up its window grows, up to a most; otherwise it stays."""
        offset, limit, window = 0, FIRST_WINDOW, 0
        for _ in range(20):
            while offset < limit:
                size = min(PAYLOAD, limit - offset)
                self.far.say(data(1, offset, bytes(size)))
                offset += size
            limit = self.acks()[-1][1]
            window = limit - offset
        self.assertEqual(window, MOST_WINDOW)

    def last_window(self, rtt: float | None, rate: float) -> int:
        """
        What this side takes at last, after much has come in small pieces, each taken at once.

        @param rate: bytes that come in each round trip of 80 ms.
        """
        self.far.other.rtt = rtt
        piece, offset, limit = FIRST_WINDOW // 16, 0, FIRST_WINDOW
        while offset < 3 * MOST_WINDOW:
            self.clock.advance(0.08 * piece / rate)
            self.far.say(data(1, offset, bytes(piece)))
            offset += piece
            limit = ([limit] + [told for _, told in self.acks()])[-1]
        return limit - offset

    def test_growth_on_a_long_way(self) -> None:
        """As long as a window is used up in each round trip it grows, however it is taken."""
        self.assertGreater(self.last_window(0.08, MOST_WINDOW), MOST_WINDOW // 2)

    def test_no_growth_without_need(self) -> None:
        """A window of which little is used in each round trip stays."""
        self.assertLessEqual(self.last_window(0.08, FIRST_WINDOW // 8), FIRST_WINDOW)

    def test_no_growth_on_an_unknown_way(self) -> None:
        """Before the round trip is known the window stays."""
        self.assertLessEqual(self.last_window(None, MOST_WINDOW), FIRST_WINDOW)

    def test_no_growth_for_a_slow_program(self) -> None:
        """A program that does not keep up has the window it began with."""
        self.it.hungry = False
        offset, limit = 0, FIRST_WINDOW
        for _ in range(20):
            while offset < limit:
                size = min(PAYLOAD, limit - offset)
                self.far.say(data(1, offset, bytes(size)))
                offset += size
            self.it.eat(FIRST_WINDOW // 2)
            limit = self.acks()[-1][1]
            self.assertLessEqual(limit - (offset - self.it.untaken), FIRST_WINDOW)

    def test_early(self) -> None:
        """What comes before the program is there waits for it, with the end."""
        stream = self.link.open_stream()
        self.far.say(data(2, 0, b"abc"), data(2, 3, b"def"), header(Kind.FIN, 2, 6))
        program = Program(stream, self.memory)
        self.assertEqual((program.got, program.ended), (b"abcdef", True))

    def test_early_is_bounded(self) -> None:
        """Nobody can make this side hold more than a window for a program that is not there."""
        self.link.open_stream()
        self.far.say(data(2, 0, bytes(FIRST_WINDOW)))
        self.hear()
        self.far.say(data(2, FIRST_WINDOW, b"x"))
        self.assertEqual(self.hear()[-1][:4], (Kind.RST, 0, 2, Reset.PROTOCOL))

    def test_attached_too_late(self) -> None:
        """A program that comes when its stream is over is told at once."""
        stream = self.link.open_stream()
        self.far.say(header(Kind.RST, 2, Reset.PROGRAM))
        self.assertTrue(Program(stream, self.memory).broke)

    def test_broken_while_it_catches_up(self) -> None:
        """A program that breaks on the first early bytes sees nothing of the rest."""
        stream = self.link.open_stream()
        self.far.say(data(2, 0, b"abc"), data(2, 3, b"def"), header(Kind.FIN, 2, 6))

        class Frail(Program):
            def deliver(self, data: memoryview) -> None:
                super().deliver(data)
                self.stream.reset(Reset.PROGRAM)

        program = Frail(stream, self.memory)
        self.assertEqual((program.got, program.ended, program.broke), (b"abc", False, True))


class MemoryTests(StreamCase):
    """What is kept for replays."""

    cap = 4 * CHUNK

    def test_counts(self) -> None:
        """A small chunk costs what it is long, a large one a buffer, and an ack frees both."""
        program = self.program().write(b"12345")
        self.assertEqual(self.memory.used, HEADER_SIZE + 5)
        program.write(bytes(SMALL))
        self.assertEqual(self.memory.used, HEADER_SIZE + 5 + CHUNK)
        self.hear()
        self.far.say(frames.ack(1, 5 + SMALL, FAR))
        self.assertEqual(self.memory.used, 0)

    @mock.patch.object(Memory, "share", FAR)
    def test_cap_over_all(self) -> None:
        """Over the cap a stream with bytes on their way waits; the first ack lets it go on."""
        hog, other = self.program(), self.program()
        self.far.say(frames.ack(1, 0, FAR))
        other.write(b"x")
        while hog.write(bytes(PAYLOAD)).reading:
            self.hear()
        self.assertTrue(self.memory.full)
        self.assertLess(self.memory.used, self.cap + CHUNK)
        self.hear()
        other.write(b"y")
        self.assertFalse(other.reading)
        self.assertEqual(self.payload(self.hear()), b"")
        self.far.say(frames.ack(1, hog.stream.written, FAR))
        self.assertTrue(other.reading)
        other.turn()
        self.assertEqual(self.payload(self.hear())[-1:], b"y")

    def test_shares(self) -> None:
        """Streams that have bytes on their way share the memory; who has none takes no share."""
        first, second = self.program(), self.program()
        self.assertEqual((self.memory.holders, self.memory.share), (0, self.cap))
        first.write(b"x")
        self.assertEqual((self.memory.holders, self.memory.share), (1, self.cap))
        second.write(b"x")
        second.write(b"x")
        self.assertEqual((self.memory.holders, self.memory.share), (2, self.cap // 2))
        self.far.say(frames.ack(second.stream.id, 2, FAR), frames.ack(first.stream.id, 0, FAR))
        self.assertEqual(self.memory.holders, 1)
        first.stream.reset(Reset.PROGRAM)
        self.assertEqual(self.memory.holders, 0)

    @mock.patch.object(Memory, "share", FAR)
    def test_trickle(self) -> None:
        """However full the memory, a stream with nothing on its way gets a little through."""
        hog, other = self.program(), self.program()
        self.far.say(frames.ack(1, 0, FAR))
        while hog.write(bytes(PAYLOAD)).reading:
            self.hear()
        for _ in range(3):
            self.hear()
            other.write(b"y" * PAYLOAD)
            self.assertEqual(len(self.payload(self.hear())), TRICKLE)
            self.far.say(frames.ack(2, other.stream.written, FAR))

    def test_freed_while_others_wait(self) -> None:
        """A stream that is dropped while it waits for memory frees all it held, and is silent."""
        program = self.program()
        self.far.say(frames.ack(1, 0, FAR))
        program.write(bytes(10 * PAYLOAD))
        self.hear_out(program)
        self.assertTrue(self.memory.full)
        self.assertTrue(program.out)
        program.stream.reset(Reset.PROGRAM)
        self.assertEqual(self.memory.used, 0)
        self.assertEqual(self.kinds(self.hear()), [Kind.RST])

    def test_buffers_are_used_again(self) -> None:
        """A buffer whose bytes are acknowledged is the next one to be read into."""
        program = self.program()
        first = self.memory.scratch.obj
        program.write(bytes(PAYLOAD))
        self.hear()
        self.far.say(frames.ack(1, PAYLOAD, FAR))
        program.write(bytes(PAYLOAD))
        self.assertTrue(self.memory.scratch.obj is first)

    def others_read(self) -> None:
        """Other streams of the process read into every buffer that is free."""
        for _ in range(3):
            self.memory.scratch[:] = b"b" * CHUNK
            self.memory.keep(CHUNK)

    def test_not_while_a_channel_has_it(self) -> None:
        """What a lost channel's successor has in its queue does not change under it."""
        self.program().write(b"a" * PAYLOAD)
        self.hear()
        again = self.channel(MAIN)  # It is sent again, and stays in the queue...
        again.say(frames.ack(1, PAYLOAD, FAR))  # ...while it was received over the old one.
        self.assertEqual(self.memory.used, 0)
        self.others_read()
        self.assertTrue(self.payload(again.read()) == b"a" * PAYLOAD)

    def test_not_for_one_who_lies(self) -> None:
        """Who acknowledges bytes before they are written does not see another's instead."""
        self.program().write(b"a" * PAYLOAD)
        self.far.say(frames.ack(1, PAYLOAD, FAR))
        self.assertEqual(self.memory.used, 0)
        self.others_read()
        self.assertTrue(self.payload(self.hear()) == b"a" * PAYLOAD)

    def test_not_after_a_reset(self) -> None:
        """What a stream that was reset has in a channel's queue does not change either."""
        program = self.program().write(b"a" * PAYLOAD)
        program.stream.reset(Reset.PROGRAM)
        self.others_read()
        self.assertTrue(self.payload(self.hear()) == b"a" * PAYLOAD)

    def test_few_spares(self) -> None:
        """Of the buffers that were needed once only some are kept."""
        memory = Memory()
        kept = [memory.keep(CHUNK) for _ in range(200)]
        for one in kept:
            memory.release(one)
        self.assertEqual(memory.used, 0)
        self.assertLessEqual(len(memory._spare), 64)


class MigrationTests(StreamCase):
    """Bulk transfers change to the channel that is for them."""

    def setUp(self) -> None:
        super().setUp()
        self.it = self.program()
        self.far.say(frames.ack(1, 0, FAR))

    def send(self, size: int, far: FakeChannel | None = None) -> bytes:
        """The program writes so much; what goes out over C{far}."""
        self.it.write(bytes(size))
        return self.payload(self.hear(far))

    def test_wanted_once(self) -> None:
        """A bulk transfer wants a channel for itself, and says so once."""
        for _ in range(10):
            self.assertEqual(len(self.send(PAYLOAD)), PAYLOAD)
        self.assertEqual(self.keeper.wanted, [BULK_SLOT])

    def test_small_ones_stay(self) -> None:
        """A stream that is quiet now and then is no bulk transfer, however long it is."""
        bulk = self.channel(BULK_SLOT)
        bulk.read()
        for _ in range(3 * BULK // PAYLOAD):
            self.assertEqual(len(self.send(PAYLOAD)), PAYLOAD)
            self.far.say(frames.ack(1, self.it.stream.written, FAR))
        self.assertEqual(self.it.stream.slot, MAIN)
        self.assertEqual(bulk.read(), [])

    def migrate(self) -> FakeChannel:
        """Make it a bulk transfer that waits for its last ack."""
        bulk = self.channel(BULK_SLOT)
        bulk.read()
        sent = 0
        while more := len(self.send(PAYLOAD)):
            sent += more
        self.assertGreater(sent, BULK)
        self.it.out.clear()
        return bulk

    def test_never_in_flight(self) -> None:
        """It changes its channel only when every byte of it is acknowledged, and is asked for."""
        bulk = self.migrate()
        stream = self.it.stream
        self.assertEqual(self.send(10, bulk), b"")
        self.far.say(frames.ack(1, stream.written - 1, FAR))
        self.assertEqual((self.send(10, bulk), stream.slot), (b"", MAIN))
        self.far.say(frames.ack(1, stream.written, FAR))
        self.assertEqual(len(self.send(10, bulk)), 30)
        self.assertEqual(self.hear(), [])

    def test_it_stays_there(self) -> None:
        """A bulk transfer goes on in the channel for those as long as it makes no pause."""
        bulk = self.migrate()
        stream = self.it.stream
        self.far.say(frames.ack(1, stream.written, FAR))
        for _ in range(20):
            before = stream.written
            self.assertEqual(len(self.send(PAYLOAD, bulk)), PAYLOAD)
            bulk.say(frames.ack(1, before, FAR))
        self.assertEqual(self.hear(), [])

    def test_and_comes_back(self) -> None:
        """After a pause, which is when everything is acknowledged, it is a small stream again."""
        bulk = self.migrate()
        stream = self.it.stream
        self.far.say(frames.ack(1, stream.written, FAR))
        self.send(PAYLOAD, bulk)
        bulk.say(frames.ack(1, stream.written, FAR))
        self.assertEqual(len(self.send(10)), 10)
        self.assertEqual(stream.slot, MAIN)

    def test_to_a_full_channel(self) -> None:
        """If the channel for bulk transfers is full it waits for that one."""
        bulk = self.migrate()
        bulk.other.send(bytes(FakeChannel.ENOUGH))
        self.far.say(frames.ack(1, self.it.stream.written, FAR))
        self.assertEqual(len(self.send(PAYLOAD)), 0)
        bulk.other.queue.clear()
        bulk.other.write()
        self.assertEqual(len(self.send(0, bulk)), PAYLOAD)

    def test_end_while_it_changes(self) -> None:
        """The end of a stream that is about to change is not lost."""
        self.migrate()
        self.it.stream.finish()
        self.assertIn(Kind.FIN, self.kinds(self.hear()))

    def test_channel_lost_while_it_changes(self) -> None:
        """If the channel is lost that it was to leave, everything goes again over the other."""
        bulk = self.migrate()
        written = self.it.stream.written
        self.far.other.lose()
        self.clock.advance(0)
        self.assertEqual(len(self.payload(self.hear_out(self.it, bulk))), written)


class ProviderTests(StreamCase):
    """What differs at the provider's side."""

    visitor = False

    def test_opened(self) -> None:
        """An OPEN is a stream for the service, once, and what follows is for it."""
        self.far.say(header(Kind.OPEN, 5), data(5, 0, b"GET /"), header(Kind.OPEN, 5))
        self.assertEqual([stream.id for stream in self.keeper.opened_streams], [5])
        self.assertEqual(self.keeper.programs[5].got, b"GET /")

    def test_unknown(self) -> None:
        """What belongs to no stream opens none, and its end is answered."""
        self.far.say(data(5, 0, b"GET /"), frames.ack(5, 0, 0))
        self.assertEqual(self.hear(), [])
        self.far.say(header(Kind.FIN, 5, 5))
        self.assertEqual([frame[:4] for frame in self.hear()], [(Kind.RST, 0, 5, Reset.OVER)])

    def test_opened_after_its_reset(self) -> None:
        """An OPEN that its RST has overtaken, on another channel, opens nothing."""
        self.far.say(header(Kind.RST, 5, Reset.PROGRAM))
        self.hear()
        self.far.say(header(Kind.OPEN, 5))
        self.assertEqual(self.keeper.opened_streams, [])
        self.assertEqual([frame[:4] for frame in self.hear()], [(Kind.RST, 0, 5, Reset.OVER)])

    def test_opened_again(self) -> None:
        """A number is for one stream: its OPEN, come again after it was reset, is refused."""
        self.far.say(header(Kind.OPEN, 5))
        self.keeper.programs[5].stream.reset(Reset.SERVICE)
        self.hear()
        self.far.say(header(Kind.OPEN, 5))
        self.assertEqual([frame[:4] for frame in self.hear()], [(Kind.RST, 0, 5, Reset.SERVICE)])

    def test_too_many(self) -> None:
        """Streams beyond the most are refused, and cost nothing."""
        with mock.patch("relaytun.link.streams.MOST_STREAMS", 3):
            self.far.say(*(header(Kind.OPEN, number) for number in range(1, 100)))
            said = [frame[:4] for frame in self.hear()]
        self.assertEqual(said, [(Kind.RST, 0, number, Reset.LIMIT) for number in range(4, 100)])
        self.assertEqual(len(self.link.streams), 3)
        self.assertEqual(self.link.streams._resets, {})

    def test_unconfirmed_resets_are_bounded(self) -> None:
        """A visitor that never confirms a reset ends its link before it costs much."""
        with mock.patch("relaytun.link.streams.MOST_STREAMS", 3):
            for number in range(1, 10):
                self.far.say(header(Kind.OPEN, number))
                if number in self.keeper.programs:
                    self.keeper.programs[number].stream.reset(Reset.SERVICE)
        self.assertEqual(self.link.over, Reset.PROTOCOL)

    def test_no_stream_zero(self) -> None:
        """Zero is the link itself, and no stream."""
        self.far.say(header(Kind.OPEN, 0))
        self.assertEqual(self.keeper.opened_streams, [])
        self.assertEqual(self.link.over, Reset.PROTOCOL)

    def test_hello_size(self) -> None:
        """The tests' link has an id of the right size."""
        self.assertEqual(len(LINK_ID), LINK_ID_SIZE)
