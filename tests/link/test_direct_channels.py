"""
Tests of L{relaytun.link.link} with a main channel that does not go through the relay, and of the
one that waits until it is lost.
"""

from __future__ import annotations

from relaytun.link.slots import RESERVE
from relaytun.link.stream import BULK_SLOT, MAIN
from relaytun.wire import frames
from relaytun.wire.frames import Kind, Reset

from .support import BLOCK, LINK_ID, FakeChannel, LinkCase, Program


class DirectCase(LinkCase):
    """A main channel that takes another way than the session's legs."""

    def direct(self) -> tuple[FakeChannel, FakeChannel]:
        """A direct connection becomes the main channel."""
        ends = self.pair.dial(MAIN, "lan")
        self.pair.settle()
        return ends


class DirectTests(DirectCase):
    """Such a channel carries like any other."""

    def test_path(self) -> None:
        """A link tells which way its main channel takes, on both sides."""
        link = self.pair.visitor.link
        self.assertEqual(link.path, "")
        self.connected()
        self.assertEqual((link.path, self.pair.far.link.path), ("", ""))
        self.direct()
        self.assertEqual((link.path, self.pair.far.link.path), ("lan", "lan"))
        self.connected()
        self.assertEqual(link.path, "")

    def test_why_not(self) -> None:
        """If nobody looks for another way, that is because nobody was to."""
        self.assertEqual(self.pair.visitor.link.why_not_direct(), "direct = off here")

    def test_moves(self) -> None:
        """A stream that runs goes on over a better way, and back, without losing a byte."""
        self.connected()
        program = self.pair.open().write(BLOCK)
        for _ in range(3):
            near, _ = self.direct()
            program.write(BLOCK)
            self.pair.settle()
            near.lose()
            program.write(BLOCK)
            self.connected()
        program.close()
        self.pair.settle()
        self.assert_delivered(self.pair.served(program), BLOCK * 7)

    def test_drop(self) -> None:
        """Without the channel for bulk transfers these go on over the main one."""
        self.connected()
        program = self.pair.open().write(BLOCK * 20)
        self.pair.dial(BULK_SLOT)
        self.pair.settle()
        link = self.pair.visitor.link
        self.assertIsNotNone(link.channels[BULK_SLOT])
        self.direct()
        link.drop(BULK_SLOT)
        link.drop(BULK_SLOT)
        self.assertIsNone(link.channels[BULK_SLOT])
        program.write(BLOCK).close()
        self.pair.settle()
        self.assert_delivered(self.pair.served(program), BLOCK * 21)


class ReserveTests(DirectCase):
    """The channel through the relay that waits until the direct one is lost."""

    def setUp(self) -> None:
        super().setUp()
        self.near, self.far = self.connected()
        self.link = self.pair.visitor.link

    def test_kept(self) -> None:
        """Both sides keep it, and nothing goes over it."""
        self.assertIsNone(self.link.channels[RESERVE])
        near, _ = self.direct()
        self.assertIs(self.link.channels[RESERVE], self.near)
        self.assertIs(self.pair.far.link.channels[RESERVE], self.far)
        self.assertTrue(self.near.resting and self.far.resting)
        self.assertEqual(list(self.link.channels), [near])
        for end in (self.near, self.far):
            end.cut = True
        program = self.pair.open().write(BLOCK).close()
        self.pair.settle()
        self.assert_delivered(self.pair.served(program), BLOCK)
        self.assertEqual(self.pair.visitor.keeper.wanted, [])

    def test_takes_over(self) -> None:
        """Streams go on over it at once, without losing a byte, and as often as need be."""
        program = self.pair.open().write(BLOCK)
        for _ in range(3):
            near, _ = self.direct()
            program.write(BLOCK)
            near.write(50_000)
            self.pair.cut(near)
            program.write(BLOCK)
            self.assertIs(self.link.fall_back(), self.near)
            self.assertFalse(self.near.resting)
            self.pair.settle()
            self.assertIs(self.link.channels[MAIN], self.near)
            self.assertIs(self.pair.far.link.channels[MAIN], self.far)
            self.assertIsNone(self.link.channels[RESERVE])
            self.assertFalse(self.far.resting)
        program.close()
        self.pair.settle()
        self.assert_delivered(self.pair.served(program), BLOCK * 7)
        self.assertEqual(len(self.pair.ends), 4)

    def test_while_the_direct_one_is_there(self) -> None:
        """It takes over from one that is there, too: that is closed then."""
        program = self.pair.open().write(BLOCK)
        near, far = self.direct()
        program.write(BLOCK).close()
        self.link.fall_back()
        self.pair.settle()
        self.assertFalse(near.open or far.open)
        self.assert_delivered(self.pair.served(program), BLOCK * 2)

    def test_proven_anew(self) -> None:
        """It counts as a new main channel, once for each side."""
        self.direct()
        keepers = self.pair.visitor.keeper, self.pair.far.keeper
        for keeper in keepers:
            keeper.proven.clear()
        generation = self.near.generation
        self.link.fall_back()
        self.pair.settle()
        self.assertEqual([keeper.proven for keeper in keepers], [[self.near], [self.far]])
        self.assertGreater(self.near.generation, generation)
        self.assertEqual(self.far.generation, self.near.generation)

    def test_what_is_on_its_way(self) -> None:
        """What the visitor sent before it knew that the provider keeps the channel is taken."""
        near, far = self.pair.dial(MAIN, "lan")
        near.write()
        far.take()
        self.assertIs(self.pair.far.link.channels[RESERVE], self.far)
        program = self.pair.open().write(b"late")
        program.turn()
        self.near.write()
        self.far.take()
        self.assertEqual(bytes(self.pair.served(program).got), b"late")
        self.pair.served(program).write(b"back").close()
        program.close()
        self.pair.settle()
        self.assert_delivered(program, b"back")
        self.assert_delivered(self.pair.served(program), b"late")

    def opened_late(self) -> Program:
        """
        The provider has left the first channel for a direct one, and lost that; the visitor, who
        knows nothing of it, opens a stream; @return: what is at the provider's end.
        """
        near, far = self.pair.dial(MAIN, "lan")
        near.write()
        far.take()
        far.lose()
        program = self.pair.open().write(b"late")
        program.turn()
        self.near.write()
        self.far.take()
        return self.pair.served(program)

    def test_late_open(self) -> None:
        """A stream whose OPEN comes on it is carried by what there is."""
        _, bulk = self.pair.dial(BULK_SLOT)
        self.pair.settle()
        served = self.opened_late()
        self.assertEqual(served.stream.slot, BULK_SLOT)
        served.write(b"back").turn()
        self.assertTrue(bulk.queue)

    def test_late_open_without_any(self) -> None:
        """If there is none, it is carried by the next one."""
        served = self.opened_late()
        self.pair.dial(BULK_SLOT)
        for _ in range(4):
            for ends in self.pair.ends[2:]:
                for end in ends:
                    end.write()
                    end.take()
        served.write(b"back").turn()
        self.assertEqual(served.stream.slot, BULK_SLOT)
        self.assertEqual(served.stream.written, 4)

    def test_lost(self) -> None:
        """Without it the streams go on; another one is wanted, and kept like the first."""
        program = self.pair.open().write(BLOCK)
        near, _ = self.direct()
        self.pair.cut(self.near)
        self.assertEqual(self.pair.visitor.keeper.wanted, [RESERVE])
        self.assertIsNone(self.link.channels[RESERVE])
        second = self.pair.dial(RESERVE)
        self.pair.settle()
        self.assertEqual(self.pair.visitor.keeper.proven[-1:], [near])
        third = self.pair.dial(RESERVE)
        self.pair.settle()
        self.assertFalse(second[0].open or second[1].open)
        self.assertTrue(third[0].resting and third[1].resting)
        self.pair.cut(near)
        self.link.fall_back()
        program.write(BLOCK).close()
        self.pair.settle()
        self.assert_delivered(self.pair.served(program), BLOCK * 2)
        self.assertIs(self.link.channels[MAIN], third[0])

    def test_wanted(self) -> None:
        """If there was none to keep, one is wanted."""
        first, _ = self.direct()
        self.pair.cut(self.near)
        wanted = self.pair.visitor.keeper.wanted
        wanted.clear()
        self.direct()
        self.assertFalse(first.open)
        self.assertEqual(wanted, [RESERVE])

    def test_none(self) -> None:
        """Nothing can take over where nothing is in reserve."""
        self.assertIsNone(self.link.fall_back())
        self.assertTrue(self.near.open)

    def test_strange_hello(self) -> None:
        """HELLO on a channel that carries and never was the main one changes nothing."""
        near, far = self.pair.dial(BULK_SLOT)
        self.pair.settle()
        near.send(frames.hello(MAIN, 9, LINK_ID, "ssh", False))
        self.pair.settle()
        self.assertIs(self.pair.far.link.channels[MAIN], self.far)
        self.assertIs(self.pair.far.link.channels[BULK_SLOT], far)

    def test_direct_comes_to_nothing(self) -> None:
        """If the provider has left the channel for one that is lost at once, it comes back."""
        for seen in (False, True):
            program = self.pair.open().write(BLOCK)
            self.pair.settle()
            near, far = self.pair.dial(MAIN, "lan")
            if seen:
                near.write()
                far.take()
                self.assertIs(self.pair.far.link.channels[RESERVE], self.far)
            self.pair.cut(near)
            program.write(BLOCK).close()
            self.pair.served(program).write(BLOCK).close()
            self.pair.settle()
            self.assert_delivered(self.pair.served(program), BLOCK * 2)
            self.assert_delivered(program, BLOCK)
            for link, channel in ((self.link, self.near), (self.pair.far.link, self.far)):
                self.assertIs(link.channels[MAIN], channel)
                self.assertIsNone(link.channels[RESERVE])
        self.assertEqual(self.pair.visitor.keeper.wanted, [])

    def test_two_come_to_nothing(self) -> None:
        """As long as there is hope for another direct one the old channel waits."""
        first, _ = self.pair.dial(MAIN, "lan")
        second, _ = self.pair.dial(MAIN, "lan")
        generation = second.generation
        first.lose()
        self.assertIs(self.link.channels[MAIN], self.near)
        self.assertLess(self.near.generation, generation)
        self.pair.settle()
        self.assertIs(self.link.channels[MAIN], second)

    def test_relay_comes_to_nothing(self) -> None:
        """While the direct one is silent, another one is wanted if that through the relay fails."""
        near, _ = self.direct()
        wanted = self.pair.visitor.keeper.wanted
        for failing in (False, True):
            near.failing = failing
            coming, _ = self.pair.dial(MAIN)
            coming.lose()
            self.assertEqual(wanted, [MAIN] if failing else [])

    def test_full_size(self) -> None:
        """Large packets come through before either side uses a direct channel."""
        near, far = self.pair.dial(MAIN, "lan")
        near.write(frames.PROBE)
        far.take()
        self.assertIs(self.pair.far.link.channels[MAIN], self.far)
        near.write()
        far.take()
        self.assertIs(self.pair.far.link.channels[MAIN], far)
        first = self.pair.dial(MAIN)[0].queue[0]
        self.assertEqual(first[0], Kind.HELLO)

    def test_end(self) -> None:
        """It ends with the link, and says so."""
        self.direct()
        self.link.close(Reset.SHUTDOWN)
        self.pair.settle()
        self.assertFalse(self.near.open or self.far.open)
        self.assertEqual(self.pair.far.keeper.causes, [Reset.SHUTDOWN])
