"""Tests of L{relaytun.link.link}: two links, and channels between them that come and go."""

from __future__ import annotations

from unittest import mock

from relaytun.link.link import RESUME_TIMEOUT, refuse
from relaytun.link.pacing import LATELY, PACE
from relaytun.link.stream import BULK, BULK_SLOT, MAIN, REPLAY, Stream
from relaytun.wire import frames
from relaytun.wire.frames import Frame, Kind, Reset, header

from .support import BLOCK, LINK_ID, FakeChannel, LinkCase, Program


class OpeningTests(LinkCase):
    """From nothing to a stream."""

    def test_first_bytes(self) -> None:
        """HELLO, OPEN and the first bytes leave together, before the other side says anything."""
        program = self.pair.open().write(b"GET /")
        near, _ = self.pair.dial()
        program.turn()
        near.write()
        kinds = [frame.kind for frame in near.other.read_lazily() if frame.kind != Kind.ACK]
        self.assertEqual(kinds, [Kind.HELLO, Kind.RESUME, Kind.OPEN, Kind.DATA])

    def test_there_and_back(self) -> None:
        """Both programs get what the other wrote, each sees the other's end, nothing is left."""
        self.connected()
        program = self.pair.open().write(b"question")
        self.pair.settle()
        served = self.pair.served(program)
        self.assertEqual(served.got, b"question")
        served.write(BLOCK).close()
        self.pair.settle()
        self.assert_delivered(program, BLOCK)
        program.write(b"!").close()
        self.pair.settle()
        self.assert_delivered(served, b"question!")
        self.assert_nothing_left()

    def test_before_any_channel(self) -> None:
        """A stream that is opened without a channel waits for one."""
        program = self.pair.open().write(BLOCK).close()
        self.pair.settle()
        self.assertEqual(self.pair.visitor.link.connected, False)
        self.connected()
        self.assert_delivered(self.pair.served(program), BLOCK)

    def test_many_at_once(self) -> None:
        """Many streams share a channel, and none of them gets another's bytes."""
        self.connected()
        programs = [
            self.pair.open().write(bytes([number]) * (3000 * number)).close()
            for number in range(1, 100)
        ]
        self.pair.settle()
        for number, program in enumerate(programs, 1):
            self.assert_delivered(self.pair.served(program), bytes([number]) * (3000 * number))

    def test_a_slow_one_stalls_no_other(self) -> None:
        """While one program takes nothing, the others get everything."""
        self.connected()
        slow, fast = self.pair.open().write(bytes(2 * REPLAY)), self.pair.open()
        self.pair.settle()
        stuck = self.pair.served(slow)
        stuck.hungry = False
        self.pair.settle()
        fast.write(BLOCK).close()
        self.pair.settle()
        self.assert_delivered(self.pair.served(fast), BLOCK)
        while stuck.eat():
            self.pair.settle()
        self.assertEqual(len(stuck.got), 2 * REPLAY)

    def test_proven_once_each(self) -> None:
        """Each side says when a new main channel is proven, and only then."""
        near, far = self.pair.dial()
        self.assertEqual(self.pair.visitor.keeper.proven, [])
        self.pair.settle()
        self.assertEqual(self.pair.visitor.keeper.proven, [near])
        self.assertEqual(self.pair.far.keeper.proven, [far])
        self.pair.dial(BULK_SLOT)
        self.pair.settle()
        self.assertEqual(len(self.pair.far.keeper.proven), 1)

    def test_round_trip_time(self) -> None:
        """Its round trip is that of its first channel; without one there is none."""
        link = self.pair.visitor.link
        self.assertIsNone(link.rtt)
        near, _ = self.connected()
        near.rtt = 0.25
        self.assertEqual((link.rtt, link.connected, link.is_over()), (0.25, True, False))

    def test_datagrams(self) -> None:
        """A datagram goes over the main channel if there is one with room, and is never kept."""
        link, keeper = self.pair.visitor.link, self.pair.visitor.keeper
        self.assertFalse(link.send_datagram(7, b"lost"))
        near, _ = self.connected()
        self.assertTrue(link.send_datagram(7, b"there"))
        self.assertTrue(self.pair.far.link.send_datagram(7, b"and back"))
        self.assertFalse(link.send_datagram(7, bytes(65536)))
        near.send(bytes(FakeChannel.ENOUGH))
        self.assertFalse(link.send_datagram(7, b"full"))
        near.queue.pop()
        self.pair.settle()
        self.assertEqual(self.pair.far.keeper.datagrams, [(7, b"there")])
        self.assertEqual(keeper.datagrams, [(7, b"and back")])

    def test_counts(self) -> None:
        """The bytes of streams are counted where they go out and where they come in."""
        self.connected()
        self.pair.open().write(BLOCK)
        self.pair.settle()
        self.assertEqual(self.pair.visitor.link.bytes_out, len(BLOCK))
        self.assertEqual(self.pair.far.link.bytes_in, len(BLOCK))


class ResumeTests(LinkCase):
    """When a channel is lost."""

    def test_goes_on(self) -> None:
        """What was on its way with a lost channel goes again over the next one, once."""
        near, _ = self.connected()
        program = self.pair.open().write(BLOCK)
        self.pair.settle()
        served = self.pair.served(program)
        program.write(BLOCK).close()
        served.write(BLOCK)
        near.write()
        near.other.write()
        near.other.take(5000)
        self.pair.cut(near)
        self.assertEqual(self.pair.visitor.keeper.wanted, [MAIN])
        self.pair.settle()
        self.connected()
        served.close()
        self.pair.settle()
        self.assert_delivered(served, BLOCK + BLOCK)
        self.assert_delivered(program, BLOCK)
        self.assert_nothing_left()

    def test_program_that_starts_in_between(self) -> None:
        """What a program writes without a channel is kept by itself, not by the link."""
        near, _ = self.connected()
        program = self.pair.open()
        self.pair.settle()
        self.pair.cut(near)
        program.write(BLOCK).close()
        self.assertEqual((len(program.out), self.pair.visitor.memory.used), (len(BLOCK), 0))
        self.connected()
        self.assert_delivered(self.pair.served(program), BLOCK)

    def test_only_the_visitor_notices(self) -> None:
        """The provider that still believes in the old channel believes in the new one more."""
        near, far = self.connected()
        program = self.pair.open().write(BLOCK)
        self.pair.settle()
        served = self.pair.served(program).write(BLOCK).close()
        far.cut = near.cut = True
        near.lose()
        far.write()
        self.pair.dial()
        self.pair.settle()
        self.assertFalse(far.open)
        program.close()
        self.pair.settle()
        self.assert_delivered(program, BLOCK)
        self.assert_delivered(served, BLOCK)

    def test_late_bytes(self) -> None:
        """What an old channel still brings, after everything came over the other one, is old."""
        near, far = self.connected()
        program = self.pair.open()
        self.pair.dial(BULK_SLOT)
        self.pair.settle()
        program.write(BLOCK).close()
        near.write()
        late = bytes(near.pipe)
        near.pipe.clear()
        near.lose()  # Only the visitor notices.
        del self.pair.ends[0]
        self.pair.settle()
        served = self.pair.served(program)
        self.assert_delivered(served, BLOCK)
        near.pipe += late
        far.take()
        self.assertFalse(served.broke)
        served.close()
        far.lose()
        self.pair.settle()
        self.assert_delivered(program, b"")

    def test_late_open(self) -> None:
        """A stream that was reset is not opened again by what an old channel still brings."""
        near, far = self.connected()
        bulk, _ = self.pair.dial(BULK_SLOT)
        self.pair.settle()
        program = self.pair.open().write(b"GET /")
        near.write()
        late = bytes(near.pipe)
        near.pipe.clear()
        near.lose()
        del self.pair.ends[0]
        program.stream.reset(Reset.PROGRAM)
        resets = [frame for frame in bulk.queue if frame[0] == Kind.RST]
        bulk.queue.clear()  # What was sent again is slower than the reset.
        bulk.queue.extend(resets)
        self.pair.settle()
        near.pipe += late
        far.take()
        self.pair.settle()
        self.assertEqual(self.pair.far.keeper.opened_streams, [])
        self.assertEqual(self.pair.far.link.streams, {})

    def test_old_one_carries_until_the_new_one_is_proven(self) -> None:
        """A channel that is replaced is not given up before the other side has answered."""
        near, _ = self.connected()
        newer, _ = self.pair.dial()
        self.assertIs(self.pair.visitor.link.channels[MAIN], near)
        program = self.pair.open().write(BLOCK)
        near.write()
        near.other.take()
        self.assertTrue(self.pair.served(program).got == BLOCK)
        self.pair.settle()
        self.assertIs(self.pair.visitor.link.channels[MAIN], newer)
        self.assertFalse(near.open)
        program.close()
        self.pair.settle()
        self.assert_delivered(self.pair.served(program), BLOCK)

    def test_worn(self) -> None:
        """A worn channel is replaced by the visitor; nothing that was on its way is lost."""
        near, far = self.connected()
        link = self.pair.visitor.link
        self.pair.far.link.worn(far)  # type: ignore[arg-type]
        link.worn(near)  # type: ignore[arg-type]
        self.assertEqual(self.pair.visitor.keeper.wanted, [MAIN])
        program = Program(link.open_stream(), self.pair.visitor.memory)
        program.write(b"on its way")
        newer, _ = self.pair.dial(MAIN)
        self.pair.settle()
        self.assertFalse(near.open)
        self.assertIs(link.channels[MAIN], newer)
        self.assertEqual(bytes(self.pair.far.programs[1].got), b"on its way")
        link.worn(near)  # type: ignore[arg-type]
        self.assertEqual(self.pair.visitor.keeper.wanted, [MAIN])

    def test_bulk_gives_way(self) -> None:
        """Beside keystrokes bulk transfers have room for a chunk at a time, and hear when."""
        self.connected()
        self.pair.dial(BULK_SLOT)
        self.pair.settle()
        for side in (self.pair.visitor, self.pair.far):
            link, clock = side.link, self.pair.clock
            stream = Stream(link.carriage, link.streams, 99, BULK_SLOT)
            link.carriage.send(BULK_SLOT, header(Kind.FIN, 99))
            self.assertTrue(link.carriage.has_room(BULK_SLOT))
            program = Program(self.pair.visitor.link.open_stream(), self.pair.visitor.memory)
            program.write(b"k")
            while self.pair.turn():
                pass
            link.carriage.send(BULK_SLOT, header(Kind.FIN, 99))
            self.assertFalse(link.carriage.has_room(BULK_SLOT))
            self.assertTrue(link.carriage.has_room(MAIN))
            link.carriage.wants_room(stream)
            clock.advance(PACE)
            self.assertFalse(stream.queued)
            link.carriage.send(BULK_SLOT, header(Kind.FIN, 99))
            self.assertFalse(link.carriage.has_room(BULK_SLOT))
            clock.advance(PACE)
            clock.advance(LATELY)
            link.carriage.send(BULK_SLOT, header(Kind.FIN, 99))
            self.assertTrue(link.carriage.has_room(BULK_SLOT))

    def test_pacing_ends_with_the_link(self) -> None:
        """No call is left when a link ends while bulk transfers wait."""
        self.connected()
        self.pair.dial(BULK_SLOT)
        self.pair.settle()
        link = self.pair.visitor.link
        Program(link.open_stream(), self.pair.visitor.memory).write(b"k")
        link.carriage.send(BULK_SLOT, header(Kind.FIN, 99))
        self.assertFalse(link.carriage.has_room(BULK_SLOT))
        link.close(Reset.SHUTDOWN)
        self.pair.settle()
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])

    def test_channels_of_no_use(self) -> None:
        """Channels that begin, and carry nothing, do not keep streams waiting for ever."""
        self.connected()
        link, far = self.pair.visitor.link, self.pair.far.link
        program = Program(link.open_stream(), self.pair.visitor.memory)
        self.pair.settle()
        (served,) = self.pair.far.programs.values()
        program.write(b"never heard")
        begin = self.pair.clock.seconds()
        while not link.is_over():
            for end in self.pair.ends[-1]:
                end.lose()
            near, other = self.pair.dial()
            near.write()
            other.take()
            other.write(5 * frames.HEADER_SIZE)  # WELCOME, what was received, RESUME.
            near.take()
            near.cut = other.cut = True
            self.pair.clock.advance(10)
            self.assertLess(self.pair.clock.seconds() - begin, 2 * RESUME_TIMEOUT)
        self.assertTrue(program.broke and not program.ended)
        self.pair.ends[-1][1].lose()
        self.pair.clock.advance(RESUME_TIMEOUT)
        self.assertTrue(far.is_over() and served.broke)
        self.assertEqual(served.got, b"")

    def test_nothing_left_to_wait_for(self) -> None:
        """When what was to be sent is given up, a link that has a channel waits no more."""
        self.connected()
        link = self.pair.visitor.link
        program = Program(link.open_stream(), self.pair.visitor.memory)
        self.pair.settle()
        program.write(b"too late")
        for end in self.pair.ends[-1]:
            end.lose()
        near, far = self.pair.dial()
        near.write()
        far.take()
        far.write()
        near.take()
        near.cut = True
        self.assertTrue(link.connected)
        program.stream.reset(Reset.PROGRAM)
        self.pair.clock.advance(RESUME_TIMEOUT + 1)
        self.assertFalse(link.is_over())

    def test_unproven_channels_change_nothing(self) -> None:
        """After channels that are lost before the other side answers the old one goes on."""
        near, far = self.connected()
        link = self.pair.visitor.link
        for _ in range(20):
            newer, _ = self.pair.dial()
            arrived = link.channels.arriving[newer]  # type: ignore[index]
            newer.lose()
            self.assertFalse(self.successResultOf(arrived))
            self.pair.settle()
        self.assertIs(link.channels[MAIN], near)
        self.assertIs(self.pair.far.link.channels[MAIN], far)
        self.assertEqual(link.channels.arriving, {})

    def test_silent_arrival(self) -> None:
        """A channel that falls silent before it carries is given up; it is missed if it has to."""
        near, _ = self.connected()
        link, wanted = self.pair.visitor.link, self.pair.visitor.keeper.wanted
        newer, _ = self.pair.dial()
        link.worn(newer)  # type: ignore[arg-type]
        self.assertEqual((newer.open, near.open, wanted), (False, True, []))
        newest, _ = self.pair.dial()
        near.lose()
        self.assertEqual(wanted, [])
        link.worn(newest)  # type: ignore[arg-type]
        self.assertEqual(wanted, [MAIN])

    def test_generations(self) -> None:
        """Each channel of a slot has a higher generation than those before it."""
        channels = [self.pair.dial(slot)[0] for slot in (MAIN, MAIN, BULK_SLOT, MAIN)]
        self.assertEqual([channel.generation for channel in channels], [1, 2, 1, 3])

    def test_stale(self) -> None:
        """An older channel than the one that has its slot, or one of no slot, is refused."""
        self.connected()
        self.pair.dial()
        self.pair.settle()
        for slot, generation in [(MAIN, 2), (MAIN, 1), (MAIN, 0), (3, 1), (2**64 - 1, 1)]:
            near, far = FakeChannel.pair()
            hello = Frame(Kind.HELLO, 0, slot, generation, LINK_ID + b"ssh")
            self.pair.far.link.adopt(far, hello)  # type: ignore[arg-type]
            self.assertEqual([frame[:4] for frame in near.read()], [(Kind.RST, 0, 0, Reset.STALE)])
            self.assertFalse(far.open)
        self.assertTrue(self.pair.far.link.connected)

    def test_refused_as_stale(self) -> None:
        """A visitor whose newer channel is refused as stale keeps the one that it has."""
        self.connected()
        near, far = self.pair.dial()
        refuse(far, Reset.STALE)  # type: ignore[arg-type]
        self.pair.settle()
        link = self.pair.visitor.link
        self.assertEqual((near.open, link.connected, link.over), (False, True, None))
        self.assertEqual(self.pair.visitor.keeper.wanted, [])

    def test_overtaken_newcomer(self) -> None:
        """The one of two new channels that is older never takes the place of the newer one."""
        self.connected()
        older, older_far = self.pair.dial()
        newer, newer_far = self.pair.dial()
        older.write()
        older_far.take()
        older_far.write()
        newer.write()
        newer_far.take()
        newer_far.write()
        newer.take()
        older.take()
        link = self.pair.visitor.link
        self.assertIs(link.channels[MAIN], newer)
        self.pair.settle()
        self.assertIs(link.channels[MAIN], newer)
        self.assertIs(self.pair.far.link.channels[MAIN], newer_far)
        self.assertFalse(older.open or older_far.open)

    def test_overtaken_at_the_provider(self) -> None:
        """The same at the provider: the RESUME of an older channel does not bring it back."""
        self.connected()
        older, older_far = self.pair.dial()
        older.write()
        older_far.take(len(older.pipe) - len(header(Kind.RESUME)))
        newer, newer_far = self.pair.dial()
        newer.write()
        newer_far.take()
        older_far.take()
        self.assertIs(self.pair.far.link.channels[MAIN], newer_far)
        self.assertFalse(older_far.open)

    def test_reset_without_a_channel(self) -> None:
        """A reset that nobody could be told of is told with the next channel."""
        near, _ = self.connected()
        program = self.pair.open().write(b"x")
        self.pair.settle()
        self.pair.cut(near)
        program.stream.reset(Reset.PROGRAM)
        self.assertFalse(self.pair.served(program).broke)
        self.connected()
        self.assertTrue(self.pair.served(program).broke)
        self.assert_nothing_left()

    def test_reset_that_was_lost(self) -> None:
        """A reset that is lost with its channel is told again over the one that is left."""
        near, _ = self.connected()
        self.pair.dial(BULK_SLOT)
        program = self.pair.open().write(b"x")
        self.pair.settle()
        program.stream.reset(Reset.PROGRAM)
        near.write()
        self.pair.cut(near)
        self.pair.settle()
        self.assertTrue(self.pair.served(program).broke)
        self.assert_nothing_left()

    def test_lost_last_ack(self) -> None:
        """If the last ack is lost with its channel, the stream still ends in order."""
        for lost in (1, 2, 3, 4):
            with self.subTest(lost=lost):
                self.setUp()
                near, far = self.connected()
                program = self.pair.open().write(b"x").close()
                self.pair.settle()
                served = self.pair.served(program).write(b"y").close()
                # The last exchange, cut off after this many messages.
                for end in [far, near, far, near][:lost]:
                    self.pair.clock.advance(0.05)
                    end.write()
                    end.other.take()
                self.pair.cut(near)
                self.connected()
                self.assert_delivered(program, b"y")
                self.assert_delivered(served, b"x")
                self.assert_nothing_left()

    def test_timeout(self) -> None:
        """Without a channel for too long both sides end with an error, never with a clean end."""
        near, _ = self.connected()
        program = self.pair.open().write(b"x")
        self.pair.settle()
        served = self.pair.served(program)
        self.pair.cut(near)
        self.pair.clock.advance(RESUME_TIMEOUT - 1)
        self.assertFalse(program.broke or served.broke)
        self.pair.clock.advance(1)
        for one in (program, served):
            self.assertEqual((one.ended, one.broke), (False, True))
        for side in (self.pair.visitor, self.pair.far):
            self.assertEqual(side.keeper.causes, [Reset.TIMEOUT])
        self.assert_nothing_left()
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])

    def test_timeout_starts_again(self) -> None:
        """Each time it is without a channel it has all of that time."""
        near, _ = self.connected()
        for _ in range(3):
            self.pair.cut(near)
            self.pair.clock.advance(RESUME_TIMEOUT - 1)
            near, _ = self.connected()
        self.pair.clock.advance(2 * RESUME_TIMEOUT)
        self.assertIsNone(self.pair.visitor.link.over)

    def test_process_died(self) -> None:
        """If the other process has died, its streams end with an error."""
        near, _ = self.connected()
        program = self.pair.open().write(b"x")
        self.pair.settle()
        self.pair.provider = None
        self.pair.cut(near)
        self.pair.dial()
        self.pair.settle()
        self.assertEqual((program.ended, program.broke), (False, True))
        self.assertEqual(self.pair.visitor.keeper.causes, [Reset.UNKNOWN])
        self.assertEqual(self.pair.visitor.memory.used, 0)

    def test_first_channel_lost(self) -> None:
        """If its first channel is lost before the answer came, the link begins once more."""
        program = self.pair.open().write(BLOCK)
        near, _ = self.pair.dial()
        near.write()
        program.turn()
        near.write()
        self.pair.cut(near)
        self.connected()
        program.close()
        self.pair.settle()
        self.assert_delivered(self.pair.served(program), BLOCK)

    def test_answer_lost(self) -> None:
        """The same if the provider knows the link already: it goes on from what it has."""
        program = self.pair.open().write(BLOCK)
        near, far = self.pair.dial()
        program.turn()
        near.write()
        far.take()
        self.assertTrue(self.pair.served(program).got)
        self.pair.cut(near)
        self.connected()
        program.close()
        self.pair.settle()
        self.assert_delivered(self.pair.served(program), BLOCK)
        self.assertEqual(len(self.pair.far.keeper.opened_streams), 1)


class TwoChannelsTests(LinkCase):
    """A main channel, and one for bulk transfers."""

    def setUp(self) -> None:
        super().setUp()
        self.main, _ = self.pair.dial(MAIN)
        self.bulk, _ = self.pair.dial(BULK_SLOT)
        self.pair.settle()

    def test_bulk_transfer(self) -> None:
        """A long transfer moves to its channel without losing a byte, in either direction."""
        sent = BLOCK * (8 * BULK // len(BLOCK))
        program = self.pair.open().write(sent).close()
        self.pair.settle()
        served = self.pair.served(program)
        self.assert_delivered(served, sent)
        self.assertEqual(program.stream.slot, BULK_SLOT)
        served.write(sent).close()
        self.pair.settle()
        self.assert_delivered(program, sent)
        self.assert_nothing_left()

    def test_each_is_the_other_ones_substitute(self) -> None:
        """When either of them is lost, all streams go on over the other one."""
        for number in (0, 1):
            with self.subTest(lost=number):
                self.setUp()
                sent = BLOCK * (4 * BULK // len(BLOCK))
                small, large = self.pair.open(), self.pair.open().write(sent)
                self.pair.settle()
                small.write(BLOCK)
                large.write(sent)
                for near, far in self.pair.ends:
                    near.write(30_000)
                    far.take(20_000)
                self.pair.cut((self.main, self.bulk)[number])
                small.close()
                large.close()
                self.pair.settle()
                self.assertEqual(set(self.pair.visitor.keeper.wanted), {number})
                self.assert_delivered(self.pair.served(small), BLOCK)
                self.assert_delivered(self.pair.served(large), sent + sent)

    def test_new_streams_without_a_main_channel(self) -> None:
        """New streams begin on whichever channel there is."""
        self.pair.cut(self.main)
        program = self.pair.open().write(BLOCK).close()
        self.pair.settle()
        self.assert_delivered(self.pair.served(program), BLOCK)

    def test_both_lost(self) -> None:
        """Without any, the first that comes carries all streams, whichever it is."""
        program = self.pair.open().write(BLOCK)
        self.pair.cut(self.main, self.bulk)
        self.pair.dial(BULK_SLOT)
        program.close()
        self.pair.settle()
        self.assert_delivered(self.pair.served(program), BLOCK)

    def test_wanted_again(self) -> None:
        """After the channel for bulk transfers is lost, the next such transfer wants one again."""
        self.pair.cut(self.bulk)
        keeper = self.pair.visitor.keeper
        self.assertEqual(keeper.wanted, [BULK_SLOT])
        self.pair.open().write(bytes(2 * BULK))
        self.pair.settle()
        self.assertEqual(keeper.wanted, [BULK_SLOT, BULK_SLOT])

    def test_wanted_for_what_comes(self) -> None:
        """A long transfer towards the visitor wants a channel too: only the visitor dials."""
        self.pair.cut(self.bulk)
        program = self.pair.open()
        self.pair.settle()
        self.pair.served(program).write(bytes(2 * BULK))
        self.pair.settle()
        self.assertEqual(self.pair.visitor.keeper.wanted, [BULK_SLOT, BULK_SLOT])
        self.assertEqual(self.pair.far.keeper.wanted, [BULK_SLOT])

    def test_wanted_after_a_path_without(self) -> None:
        """Where there was to be none it is wanted once, and again over the next main channel."""
        self.pair.cut(self.bulk)
        there, here = self.pair.open(), self.pair.open()
        keeper = self.pair.visitor.keeper
        for _ in range(3):
            keeper.wanted.clear()
            self.pair.dial(MAIN)
            self.pair.settle()
            there.write(bytes(2 * BULK))
            self.pair.settle()
            self.assertEqual(keeper.wanted, [BULK_SLOT])
        for _ in range(3):
            keeper.wanted.clear()
            self.pair.dial(MAIN)
            self.pair.settle()
            self.pair.served(here).write(bytes(2 * BULK))
            self.pair.settle()
            self.assertEqual(keeper.wanted, [BULK_SLOT])


class EndingTests(LinkCase):
    """When a link is over."""

    def test_close(self) -> None:
        """Who closes a link breaks its programs at both ends, and nothing is left."""
        self.connected()
        program = self.pair.open().write(b"x")
        self.pair.settle()
        served = self.pair.served(program)
        self.pair.visitor.link.close(Reset.SHUTDOWN)
        self.pair.visitor.link.close(Reset.TIMEOUT)
        self.pair.settle()
        self.assertTrue(program.broke and served.broke)
        self.assertEqual(self.pair.visitor.keeper.causes, [Reset.SHUTDOWN])
        self.assertEqual(self.pair.far.keeper.causes, [Reset.SHUTDOWN])
        self.assert_nothing_left()
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])

    def test_no_delayed_calls(self) -> None:
        """Whatever it was about to do when it ended, it does not."""
        near, _ = self.connected()
        self.pair.dial(BULK_SLOT)
        self.pair.settle()
        program = self.pair.open().write(b"x")
        near.write()
        near.other.take()
        self.pair.served(program).write(b"y")
        near.other.write()
        near.take()
        self.pair.cut(near)
        self.pair.visitor.link.close(Reset.SHUTDOWN)
        self.pair.far.link.close(Reset.SHUTDOWN)
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])

    def test_program_that_is_still_taking(self) -> None:
        """A program that takes the last bytes after its stream and its link are over, is left
        alone, and leaves them alone."""
        self.connected()
        program = self.pair.open(hungry=False)
        self.pair.settle()
        self.pair.served(program).write(b"y").close()
        program.close()
        self.pair.settle()
        self.assertEqual(self.pair.visitor.link.streams, {})
        self.pair.visitor.link.close(Reset.SHUTDOWN)
        self.assertEqual(program.eat(), 1)
        self.assertEqual((program.ended, program.broke), (True, False))
        self.pair.settle()
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])

    def test_channel_that_comes_too_late(self) -> None:
        """A channel for a link that has ended is closed."""
        self.connected()
        self.pair.visitor.link.close(Reset.SHUTDOWN)
        self.pair.far.link.close(Reset.SHUTDOWN)
        near, far = FakeChannel.pair()
        self.pair.visitor.link.attach(near, MAIN)  # type: ignore[arg-type]
        hello = Frame(Kind.HELLO, 0, MAIN, 9, LINK_ID + b"ssh")
        self.pair.far.link.adopt(far, hello)  # type: ignore[arg-type]
        self.assertFalse(near.open or far.open)

    def test_refused(self) -> None:
        """A refusal of the link ends it; one of the channel alone does not."""
        fatal = {
            Reset.UNKNOWN,
            Reset.FORBIDDEN,
            Reset.SHUTDOWN,
            Reset.TIMEOUT,
            Reset.PROTOCOL,
            Reset.LIMIT,
        }
        for cause in set(Reset) - {Reset.SLOW}:
            self.setUp()
            near, far = self.connected()
            refuse(far, cause)  # type: ignore[arg-type]
            self.assertFalse(far.open)
            near.take()
            self.assertFalse(near.open)
            self.assertEqual(self.pair.visitor.link.is_over(), cause in fatal, cause)

    def test_slow(self) -> None:
        """Either side may find the direct path slower than the relay; the visitor looks for one."""
        near, far = self.connected()
        demoted: list[str] = []
        visitor = self.pair.visitor
        visitor.link.demoted = lambda: demoted.append("")
        far.say(frames.header(Kind.RST, 0, Reset.SLOW))
        near.take()
        self.assertEqual(demoted, [])  # It is no direct path.
        near.path = far.path = "quic"
        wanted = len(visitor.keeper.wanted)
        self.pair.provider.link._slower()
        self.pair.settle()
        self.assertEqual((demoted, len(visitor.keeper.wanted) - wanted), ([""], 1))
        self.assertTrue(near.open)

    def test_strange_frames(self) -> None:
        """Frames that have no business there change nothing."""
        near, far = self.connected()
        program = self.pair.open()
        self.pair.settle()
        for end in (near, far):
            end.say(
                frames.hello(0, 9, LINK_ID, "ssh", False),
                header(Kind.RESUME),
                header(Kind.PING),
                header(Kind.PONG),
                frames.ack(99, 5, 5),
                header(Kind.OPEN, program.stream.id),
            )
        far.say(header(Kind.OPEN, 77))
        near.say(header(Kind.WELCOME, 0, 9))
        self.pair.settle()
        program.write(b"x").close()
        self.pair.settle()
        self.assert_delivered(self.pair.served(program), b"x")
        self.assertTrue(near.open and far.open)

    def test_too_many_streams(self) -> None:
        """A visitor that opens more streams than there may be sees an error on those alone."""
        self.connected()
        with mock.patch("relaytun.link.streams.MOST_STREAMS", 2):
            programs = [self.pair.open() for _ in range(4)]
            self.pair.settle()
        self.assertEqual([program.broke for program in programs], [False, False, True, True])
