"""Tests of L{relaytun.link.channel}: real TLS over real sockets, and a relay that lies."""

from __future__ import annotations

import gc
import os
import random
import socket
from typing import Any
from unittest import mock

from OpenSSL import SSL
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relaytun.link import channel
from relaytun.link.channel import ENOUGH, HANDSHAKE_TIMEOUT
from relaytun.link.handshake import HandshakeError
from relaytun.link.link import refuse
from relaytun.link.pulse import DIRECT, RELAYED, RESTING
from relaytun.wire import frames
from relaytun.wire.frames import HEADER_SIZE, Kind, Reset, header

from .sockets import Ends, Loop

BLOCK = random.Random(2).randbytes(100_000)


def data(offset: int, payload: bytes) -> bytes:
    """A DATA frame."""
    return header(Kind.DATA, 1, offset, 0, len(payload)) + payload


class ChannelCase(SynchronousTestCase):
    """Two ends, secured."""

    def setUp(self) -> None:
        self.loop = Loop()
        self.ends = self.new()
        self.ends.start()
        self.visitor, self.provider = self.ends.visitor, self.ends.provider
        self.near, self.far = self.ends.owners

    def new(self, **keywords: Any) -> Ends:
        """Two ends, before the handshake."""
        ends = Ends(self.loop, **keywords)
        self.addCleanup(ends.close)
        return ends

    def say_much(self, count: int = 20) -> bytes:
        """The visitor sends some frames; their payload."""
        for number in range(count):
            self.visitor.send(data(number * 5000, BLOCK[number * 5000 :][:5000]))
        return BLOCK[: count * 5000]

    def assert_left(self, *, calls: int = 0) -> None:
        """How many delayed calls there are, and no descriptors at all."""
        self.assertEqual(len(self.loop.getDelayedCalls()), calls)
        self.assertEqual((self.loop.readers, self.loop.writers), ([], []))


class CarryingTests(ChannelCase):
    """Frames, there and back."""

    def test_both_ways(self) -> None:
        """What one side sends the other one receives, in order, both ways."""
        sent = self.say_much()
        self.provider.send(frames.ack(1, 2, 3))
        self.ends.settle()
        self.assertTrue(self.far.payload == sent)
        self.assertEqual([frame.kind for frame in self.near.frames], [Kind.ACK])

    def test_with_the_handshake(self) -> None:
        """What a visitor sends as soon as it may is there for the provider as soon as it may."""
        ends = self.new()
        ends.visitor.secured.addCallback(lambda _: ends.visitor.send(header(Kind.OPEN, 5)))
        ends.start()
        self.assertEqual([frame.stream for frame in ends.owners[1].frames], [5])

    def test_joined(self) -> None:
        """Small frames of one turn are one TLS record, a large one does not wait."""
        before = len(self.ends.relay.passed[True])
        for number in range(100):
            self.visitor.send(header(Kind.OPEN, number))
        self.assertEqual(self.visitor.fileno() >= 0, True)
        self.ends.settle()
        self.assertEqual([frame.stream for frame in self.far.frames], list(range(100)))
        self.assertLess(len(self.ends.relay.passed[True]) - before, 100 * HEADER_SIZE + 50)

    def test_secret(self) -> None:
        """Both ends have the same secrets: others for each label, generation and connection."""
        other = self.new()
        other.start()
        seen = set()
        for ends in (self.ends, other):
            for generation in (1, 2):
                ends.visitor.generation = ends.provider.generation = generation
                for label in (b"EXPORTER-one", b"EXPORTER-other"):
                    secret = ends.visitor.secret(label, 64)
                    self.assertEqual(len(secret), 64)
                    self.assertEqual(secret, ends.provider.secret(label, 64))
                    seen.add(secret)
        self.assertEqual(len(seen), 8)

    def test_order_while_blocked(self) -> None:
        """However much waits, large and small frames come out in the order they were sent in."""
        self.ends.relay.tamper[True] = lambda data: data
        expected = []
        offset = 0
        while self.visitor.room:
            for size in (100, 20_000, 1, 70_000):
                self.visitor.send(data(offset, BLOCK[:size]))
                expected.append(BLOCK[:size])
                offset += size
        self.assertFalse(self.visitor.room)
        self.visitor.waiting.append("somebody")
        self.assertEqual(self.near.drains, 0)
        self.ends.settle()
        self.assertTrue(self.far.payload == b"".join(expected))
        self.assertGreater(self.near.drains, 0)
        self.assertTrue(self.visitor.room)
        self.assertEqual(self.loop.writers, [])

    def test_holds(self) -> None:
        """It says of a frame whether it still has it."""
        view = memoryview(bytearray(data(0, BLOCK[:50_000])))
        self.visitor.send(view)
        self.assertFalse(self.visitor.holds(view))
        while self.visitor.room:
            self.visitor.send(data(0, BLOCK))
        self.visitor.send(view)
        self.assertTrue(self.visitor.holds(view))
        self.ends.settle()
        self.assertFalse(self.visitor.holds(view))

    def test_one_who_takes_nothing(self) -> None:
        """Who asks and asks and takes no answers is lost before they fill the memory."""
        ends = self.ends

        class Deaf:
            """A socket to which nothing can be written."""

            def __init__(self, sock: socket.socket) -> None:
                self.fileno, self.close, self.recv_into = sock.fileno, sock.close, sock.recv_into

            def send(self, data: object) -> int:
                raise BlockingIOError

        self.provider._sock = Deaf(self.provider._sock)  # type: ignore[assignment]
        pings = header(Kind.PING) * 5000
        for _ in range(5_000_000 // len(pings)):
            self.visitor.send(pings)
            for _ in range(20):
                ends.relay.turn()
                if self.provider.open:
                    self.provider.doRead()
        self.assertEqual(self.far.whys, ["the other side takes nothing"])

    def test_closed_while_it_receives(self) -> None:
        """Who closes a channel on a frame does not get the next one."""
        self.far.hear = lambda frame: self.provider.close()
        for number in range(3):
            self.visitor.send(header(Kind.OPEN, number))
        self.ends.settle()
        self.assertEqual(len(self.far.frames), 1)
        self.assertEqual(self.far.whys, [])

    def test_no_frame(self) -> None:
        """What is no frame costs the channel, and what came before it counts."""
        self.visitor.send(header(Kind.OPEN, 1) + b"\xff" * HEADER_SIZE + header(Kind.OPEN, 2))
        self.ends.settle()
        self.assertEqual([frame.stream for frame in self.far.frames], [1])
        self.assertEqual(self.far.whys, ["no frame of a link"])
        self.assertEqual(len(self.near.whys), 1)

    def test_worn(self) -> None:
        """A channel that has moved so much is said to be worn, with its next PING."""
        with mock.patch.object(channel, "WORN", 50_000):
            self.say_much()
            self.ends.settle()
            self.assertEqual((self.near.worn_out, self.far.worn_out), (0, 0))
            self.loop.advance(RELAYED.ping)
            self.ends.settle()
            self.loop.advance(RELAYED.ping)
        self.assertEqual((self.near.worn_out, self.far.worn_out), (1, 1))

    def test_refusal_arrives(self) -> None:
        """A refusal is heard before the channel ends."""
        refuse(self.provider, Reset.UNKNOWN)
        self.ends.settle()
        self.assertEqual([frame[:4] for frame in self.near.frames], [(8, 0, 0, Reset.UNKNOWN)])


class LyingRelayTests(ChannelCase):
    """What a relay can do to bytes: nothing that is not noticed."""

    def lies(self, lie: Any) -> None:
        """Everything from now on is changed by C{lie}; what comes out is a beginning, or none."""
        self.ends.relay.tamper[True] = lie
        sent = self.say_much()
        for _ in range(3):
            self.ends.settle()
        self.assertTrue(sent.startswith(self.far.payload))
        self.assertNotEqual(len(self.far.payload), len(sent))

    def assert_lost(self) -> None:
        """Both sides have noticed."""
        self.ends.settle()
        self.assertEqual((len(self.near.whys), len(self.far.whys)), (1, 1))
        self.assertFalse(self.visitor.open or self.provider.open)

    def test_flipped(self) -> None:
        """A flipped bit, wherever it is, costs the channel."""
        for place in (0, 1, 3, 5, 6, 1000, 16_000, -1):
            self.setUp()

            def flip(data: bytes, place: int = place) -> bytes:
                changed = bytearray(data)
                changed[place] ^= 1
                return bytes(changed)

            self.lies(flip)
            if place not in (3,):  # A longer record has not ended yet.
                self.assert_lost()

    def test_dropped(self) -> None:
        """Bytes that are left out cost it."""
        self.lies(lambda data: data[100:])
        self.assert_lost()

    def test_dropped_record(self) -> None:
        """So does a whole record, which nothing but its number tells from the next."""
        before = len(self.ends.relay.passed[True])
        self.visitor.send(header(Kind.OPEN, 1))
        self.ends.relay.tamper[True] = lambda data: b""
        self.ends.settle()
        self.assertGreater(len(self.ends.relay.passed[True]), before)
        del self.ends.relay.tamper[True]
        self.visitor.send(header(Kind.OPEN, 2))
        self.ends.settle()
        self.assertEqual(self.far.frames, [])
        self.assert_lost()

    def test_replayed(self) -> None:
        """So does a record that comes twice."""
        self.ends.relay.tamper[True] = lambda data: data + data
        self.visitor.send(header(Kind.OPEN, 1))
        self.ends.settle()
        self.assertEqual([frame.stream for frame in self.far.frames], [1])
        self.assert_lost()

    def test_reordered(self) -> None:
        """So do records that change places."""
        held: list[bytes] = []

        def swap(data: bytes) -> bytes:
            held.append(data)
            return b"" if len(held) < 2 else held[1] + held[0]

        self.ends.relay.tamper[True] = swap
        for number in (1, 2):
            self.visitor.send(header(Kind.OPEN, number))
            self.ends.settle()
        self.assertEqual(self.far.frames, [])
        self.assert_lost()

    def test_from_another_channel(self) -> None:
        """So does a record of another channel between the same two."""
        other = self.new().start()
        other.visitor.send(header(Kind.OPEN, 1))
        begin = len(other.relay.passed[True])
        other.settle()
        record = bytes(other.relay.passed[True][begin:])
        self.ends.relay.far.send(record)
        self.ends.settle()
        self.assertEqual(self.far.frames, [])
        self.assert_lost()

    def test_truncated(self) -> None:
        """An end that a relay makes up is a lost channel, whether in or between records."""
        for kept in (None, 10):
            self.setUp()
            relay = self.ends.relay
            relay.tamper[True] = lambda data, kept=kept: data[:kept]
            self.visitor.send(header(Kind.OPEN, 1))
            self.ends.settle()
            relay.close()
            self.ends.settle()
            self.assertEqual(len(self.far.frames), 0 if kept else 1)
            self.assertEqual(self.far.whys, ["the other side closed the channel"])
            self.assertEqual(len(self.near.whys), 1)


class TimeTests(ChannelCase):
    """What happens when nothing does."""

    def test_handshake(self) -> None:
        """Each side knows from the handshake how long the other one takes to answer."""
        ends = self.new()
        ends.relay.tamper[False] = self.late
        ends.start()
        self.assertEqual(ends.visitor.rtt, 0.25)
        self.assertEqual(ends.provider.rtt, 0.25)

    def late(self, data: bytes) -> bytes:
        """A while passes before it goes on."""
        self.loop.advance(0.25)
        return data

    def test_ping(self) -> None:
        """Every five seconds each side asks, and learns how long the answer takes."""
        self.loop.advance(4.9)
        before = len(self.ends.relay.passed[True])
        self.ends.settle()
        self.assertEqual(len(self.ends.relay.passed[True]), before)
        self.loop.advance(0.1)
        self.loop.turn()
        self.loop.advance(0.25)
        self.ends.settle()
        self.assertEqual((self.visitor.rtt, self.provider.rtt), (0.25, 0.25))
        self.assertEqual(self.far.frames + self.near.frames, [])

    def test_alive(self) -> None:
        """As long as answers come, a channel without any frames lives for ever."""
        for _ in range(100):
            self.loop.advance(5)
            self.ends.settle()
        self.assertTrue(self.visitor.open and self.provider.open)

    def test_dead(self) -> None:
        """After fifteen seconds of silence it is lost, and nobody is asked any more."""
        for _ in range(int(RELAYED.dead)):
            self.assertTrue(self.visitor.open)
            self.loop.advance(1)
        self.assertEqual(self.near.whys, ["nothing came for 15 s"])
        self.assertEqual(self.far.whys, ["nothing came for 15 s"])
        self.assert_left()

    def test_slow_handshake(self) -> None:
        """The silence is counted from the end of the handshake at the earliest."""
        ends = self.new()
        self.loop.advance(HANDSHAKE_TIMEOUT - 1)
        ends.start()
        self.loop.advance(RELAYED.dead - 1)
        self.assertEqual(ends.owners[0].whys, [])

    def test_handshake_deadline(self) -> None:
        """A handshake that takes longer than ten seconds fails."""
        ends = self.new()
        ends.relay.tamper[True] = lambda data: b""
        ends.start()
        self.loop.advance(HANDSHAKE_TIMEOUT - 0.1)
        self.assertEqual(ends.secured, {})
        self.loop.advance(0.1)
        for end in (ends.visitor, ends.provider):
            failure = ends.secured[end]
            assert isinstance(failure, Failure)
            self.assertTrue(failure.check(HandshakeError))


class RestTests(ChannelCase):
    """Channels in reserve."""

    def setUp(self) -> None:
        super().setUp()
        self.visitor.rest()
        self.provider.rest()

    def test_unsent(self) -> None:
        """What waited to be written is not: it goes another way."""
        self.visitor.wake()
        self.say_much()
        self.visitor.send(header(Kind.FIN, 1, 5))
        self.visitor.rest()
        self.ends.settle()
        self.assertEqual(self.far.frames, [])
        self.assertTrue(self.visitor.room)

    def test_seldom_asked(self) -> None:
        """They are asked every fifteen seconds whether they are there, and answer."""
        before = len(self.ends.relay.passed[True])
        for _ in range(2):
            self.loop.advance(RESTING.ping - 0.1)
            self.ends.settle()
            self.assertEqual(len(self.ends.relay.passed[True]), before)
            self.loop.advance(0.1)
            self.ends.settle()
            self.assertGreater(len(self.ends.relay.passed[True]), before)
            before = len(self.ends.relay.passed[True])
        self.assertTrue(self.visitor.open and self.provider.open)

    def test_dead(self) -> None:
        """After forty-five seconds of silence one is lost."""
        self.loop.advance(RESTING.ping)
        self.loop.advance(RESTING.ping)
        self.assertEqual(self.near.whys, [])
        self.loop.advance(RESTING.ping)
        self.assertEqual(self.near.whys, ["nothing came for 45 s"])
        self.assert_left()

    def test_wakes(self) -> None:
        """One that carries again is judged as others are, from then on."""
        self.loop.advance(RESTING.ping - 0.1)
        self.visitor.wake()
        self.loop.advance(0.2)
        self.assertEqual(self.near.whys, [])
        for _ in range(3):
            self.assertEqual(self.near.whys, [])
            self.loop.advance(RELAYED.ping)
        self.assertEqual(self.near.whys, ["nothing came for 15 s"])

    def test_carries_again(self) -> None:
        """What is sent then arrives."""
        self.visitor.wake()
        self.provider.wake()
        sent = self.say_much()
        self.ends.settle()
        self.assertTrue(self.far.payload == sent)


class DirectTests(ChannelCase):
    """A channel without a relay, where only silence tells of the end."""

    def new(self, **keywords: Any) -> Ends:
        """They are less patient."""
        return super().new(pace=DIRECT, **keywords)

    def cut(self) -> None:
        """From now on nothing arrives."""
        for direction in (True, False):
            self.ends.relay.tamper[direction] = lambda data: b""

    def wait(self, seconds: float) -> None:
        """Time passes, and what can arrive does."""
        for _ in range(round(seconds * 20)):
            self.loop.advance(0.05)
            self.ends.settle()

    def test_answered(self) -> None:
        """Whoever sends something that nobody answers asks for an answer, and is content."""
        self.say_much(1)
        self.ends.settle()
        self.wait(60)
        self.assertTrue(self.visitor.open)
        self.assertEqual(self.near.whys, [])

    def test_relayed(self) -> None:
        """Through the relay a channel waits longer: it may be the other side's turn there."""
        self.ends = Ends(self.loop)
        self.addCleanup(self.ends.close)
        self.ends.start()
        self.visitor, self.near = self.ends.visitor, self.ends.owners[0]
        self.cut()
        self.say_much(1)
        self.ends.settle()
        self.wait(RELAYED.dead - 1)
        self.assertEqual(self.near.whys, [])
        self.wait(1.1)
        self.assertEqual(self.near.whys, ["nothing came for 15 s"])

    def test_closed_while_it_waits(self) -> None:
        """Closed while it waits for an answer it leaves nothing."""
        self.cut()
        self.say_much(1)
        self.ends.settle()
        self.visitor.close()
        self.provider.close()
        self.assert_left()

    def test_how_it_came(self) -> None:
        """It knows which way it takes; through the relay that is the session's business."""
        self.assertEqual(self.visitor.path, "")


class EndingTests(ChannelCase):
    """When it is over."""

    def test_closed(self) -> None:
        """Who closes it hears no more of it, the other side learns of it, nothing is left."""
        self.say_much(1)
        self.visitor.close()
        self.visitor.close()
        self.visitor.send(header(Kind.OPEN, 1))
        self.visitor.doWrite()
        self.ends.relay.near.close()
        self.ends.relay.far.close()
        self.ends.settle()
        self.assertEqual((self.near.whys, len(self.far.whys)), ([], 1))
        self.assert_left()

    def test_closed_while_blocked(self) -> None:
        """The same if there is something that waits to be written."""
        while self.visitor.room:
            self.visitor.send(data(0, BLOCK))
        self.assertEqual(self.loop.writers, [self.visitor])
        self.visitor.close()
        self.visitor.doWrite()
        self.assertEqual(self.loop.writers, [])

    def test_closed_while_it_shakes(self) -> None:
        """The same before the handshake is over."""
        ends = self.new()
        ends.visitor.start()
        ends.visitor.close()
        ends.settle()
        self.assertEqual(list(ends.secured), [ends.provider])
        self.assertIsInstance(ends.secured[ends.provider], Failure)

    def test_cancelled(self) -> None:
        """Who does not want to wait for a handshake cancels it."""
        ends = self.new()
        ends.visitor.start()
        ends.visitor.secured.cancel()
        failure = ends.secured[ends.visitor]
        assert isinstance(failure, Failure)
        self.assertTrue(failure.check(CancelledError))
        self.assertFalse(ends.visitor.open)

    def test_broken(self) -> None:
        """A connection that breaks is a lost channel, once, whoever sees it first."""
        self.visitor.connectionLost(Failure(ConnectionLost()))
        self.visitor.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.near.whys, ["the connection broke"])
        self.ends.relay.close()
        self.provider.send(data(0, BLOCK))
        self.ends.settle()
        self.assertEqual(len(self.far.whys), 1)
        self.assert_left()

    def test_broken_as_the_handshake_ends(self) -> None:
        """A connection that breaks on the last message of a handshake is a failed handshake."""
        ends = self.new()
        visitor = ends.visitor
        visitor.start()
        ends.provider.start()
        while not ends.relay.passed[False]:
            ends.loop.turn()
            ends.relay.turn()
        ends.relay.close()
        ends.settle()
        self.assertIsInstance(ends.secured[visitor], Failure)
        self.assertFalse(visitor.open)

    def test_nothing_leaks(self) -> None:
        """However many channels come and go, and in whichever way, no descriptor stays."""
        self.ends.close()
        gc.collect()  # What other tests have left behind is not to go meanwhile.
        before = len(os.listdir("/dev/fd"))
        for number in range(30):
            ends = Ends(self.loop)
            if number % 3:
                ends.start()
            else:
                ends.visitor.start()
            if number % 2:
                ends.relay.close()
                ends.settle()
            ends.close()
        self.assertEqual(len(os.listdir("/dev/fd")), before)
        self.assert_left()

    def test_names(self) -> None:
        """The reactor knows it by its descriptor, and what follows is for its owner."""
        self.assertEqual(self.visitor.logPrefix(), "channel")
        self.assertIsInstance(self.visitor.tls, SSL.Connection)
        self.assertGreater(ENOUGH, 0)


class ImpatienceTests(ChannelCase):
    """Where only silence tells of the end, it is asked about soon."""

    def new(self, **keywords: Any) -> Ends:
        return super().new(pace=DIRECT, **keywords)

    def cut(self) -> None:
        """Nothing passes any more."""
        self.ends.relay.turn = lambda: False  # type: ignore[method-assign]

    def pass_time(self, seconds: float) -> None:
        """In small steps, with all that happens meanwhile."""
        for _ in range(round(seconds / 0.05)):
            self.loop.advance(0.05)
            self.ends.settle()

    def test_sender(self) -> None:
        """Who sends is told within 1.2 s that nobody answers, once; and the channel is not lost."""
        self.pass_time(0.5)
        self.cut()
        self.visitor.send(header(Kind.OPEN, 1))
        self.pass_time(1.1)
        self.assertEqual((self.near.worn_out, self.visitor.failing), (0, False))
        self.pass_time(0.2)
        self.assertEqual((self.near.worn_out, self.visitor.failing), (1, True))
        self.pass_time(2)
        self.assertEqual((self.near.worn_out, self.near.whys), (1, []))

    def test_receiver(self) -> None:
        """Who only receives is told as well."""
        for _ in range(20):
            self.visitor.send(header(Kind.OPEN, 1))
            self.pass_time(0.1)
        self.cut()
        self.pass_time(1.3)
        self.assertEqual((self.far.worn_out, self.provider.failing), (1, True))

    def test_blocked(self) -> None:
        """Also who cannot write any more, and has written long before."""
        self.cut()
        while self.visitor.room:
            self.visitor.send(data(0, BLOCK))
        self.pass_time(1.3)
        self.assertTrue(self.visitor.failing)

    def test_recovers(self) -> None:
        """A channel on which something comes at last is as good as before."""
        turn = self.ends.relay.turn
        self.cut()
        self.visitor.send(header(Kind.OPEN, 1))
        self.pass_time(1.3)
        self.assertTrue(self.visitor.failing)
        self.ends.relay.turn = turn  # type: ignore[method-assign]
        self.pass_time(0.1)
        self.assertFalse(self.visitor.failing)
        self.pass_time(10)
        self.assertEqual(self.near.worn_out, 1)

    def test_idle(self) -> None:
        """While nobody says anything the other side has a bit longer; until somebody does."""
        self.pass_time(3)
        self.cut()
        self.pass_time(2)  # Both have asked.
        self.assertFalse(self.visitor.failing)
        self.pass_time(0.1)
        self.provider.send(header(Kind.OPEN, 1))
        self.pass_time(0.2)
        self.assertTrue(self.visitor.failing)
        self.assertFalse(self.provider.failing)
        self.pass_time(1.1)
        self.assertTrue(self.provider.failing)

    def test_answered(self) -> None:
        """One-way traffic, with pauses, and silence for long are no reason."""
        for _ in range(5):
            self.visitor.send(header(Kind.OPEN, 1))
            self.pass_time(1.7)
        self.pass_time(20)
        self.assertEqual((self.near.worn_out, self.far.worn_out), (0, 0))
        self.assertEqual((self.near.whys, self.far.whys), ([], []))

    def test_slept(self) -> None:
        """A process that was stopped for a while reads first what has come meanwhile."""
        self.visitor.send(header(Kind.OPEN, 1))
        self.loop.advance(0.6)  # It asks; and the other side has answered when it is awake again.
        self.ends.settle()
        self.visitor.send(header(Kind.OPEN, 2))
        self.loop.advance(0.61)
        self.loop.advance(3)
        self.ends.settle()
        self.pass_time(3)
        self.assertEqual((self.near.worn_out, self.near.whys), (0, []))

    def test_long_way(self) -> None:
        """An answer that takes as long as the handshake did, or a bit more, is no silence."""
        ends = self.new()
        self.loop.advance(1.0)
        ends.start()
        ends.relay.turn = lambda: False  # type: ignore[method-assign]
        ends.visitor.send(header(Kind.OPEN, 1))
        self.pass_time(3.5)
        self.assertFalse(ends.visitor.failing)
        self.pass_time(1)
        self.assertTrue(ends.visitor.failing)
