"""Tests for L{relaytun.plane.compressed}."""

from __future__ import annotations

import itertools
import random
import socket

from hypothesis import HealthCheck, given, settings, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.plane import zstd
from relaytun.plane.compressed import PIECE, CompressedEnd
from relaytun.plane.ends import SocketEnd
from relaytun.wire.frames import Reset

from .onestream import Side

FEW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def compressed(*parts: bytes) -> bytes:
    """One whole frame."""
    codec = zstd.compressor()
    done = [codec.compress(part, codec.FLUSH_BLOCK) for part in parts]
    return b"".join(done) + codec.flush()


def expanded(data: bytes) -> bytes:
    """What a frame, whole or not, says."""
    return zstd.decompressor().decompress(data)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """C{data} in pieces, none of them empty."""
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


texts = st.builds(
    lambda word, times, noise: word * times + random.Random(noise).randbytes(noise),
    st.binary(min_size=1, max_size=20),
    st.integers(0, 60_000),
    st.integers(0, 60_000),
)
places = st.lists(st.integers(0, 1 << 20), max_size=8)


class SendingTests(SynchronousTestCase):
    @FEW
    @given(texts, places, st.lists(st.integers(1, 50_000), min_size=1, max_size=5))
    def test_any_bytes(self, data: bytes, where: list[int], rooms: list[int]) -> None:
        """Whatever a program writes, and whatever room there is, is one frame, and its end."""
        more = itertools.cycle([*rooms, 20_000])
        with Side(next(more)) as side:
            for piece in cut(data, where):
                side.write(piece, more)
            side.program.shutdown(socket.SHUT_WR)
            side.settle()
            while not side.stream.finished:
                side.stream.more_room(next(more))
                side.settle()
            codec = zstd.decompressor()
            self.assertEqual(codec.decompress(bytes(side.stream.sent)), data)
            self.assertEqual((codec.eof, codec.unused_data), (True, b""))

    def test_nothing_waits(self) -> None:
        """What a program writes is to be had at the other side before it writes more."""
        with Side() as side:
            codec = zstd.decompressor()
            for line in (b"login: ", b"x", b"password: " * 100):
                before = len(side.stream.sent)
                side.write(line)
                side.settle()
                self.assertEqual(codec.decompress(bytes(side.stream.sent[before:])), line)

    def test_smaller(self) -> None:
        """A text becomes smaller, across the chunks in which it is read."""
        with Side() as side:
            words = random.Random(1).choices([b"one ", b"two\n", b"three ", b"four: "], k=300_000)
            data = b"".join(words)
            side.write(data)
            side.settle()
            self.assertEqual(expanded(bytes(side.stream.sent)), data)
            self.assertLess(len(side.stream.sent), len(data) // 3)

    def test_larger(self) -> None:
        """What grows waits for room, and no more is read until it is gone."""
        with Side(room=100) as side:
            data = random.Random(2).randbytes(100)
            side.write(data)
            side.settle()
            side.write(b"more")
            side.settle()
            self.assertEqual((len(side.stream.sent), side.reactor.readers), (100, set()))
            while side.stream.room == 0:
                side.stream.more_room(1)
                side.settle()
            side.stream.more_room(100)
            side.settle()
            self.assertEqual(expanded(bytes(side.stream.sent)), data + b"more")

    def test_end_waits_for_room(self) -> None:
        """A program that is gone does not take with it what it wrote."""
        with Side(room=10) as side:
            side.write(b"0123456789")
            side.program.shutdown(socket.SHUT_WR)
            side.settle()
            while not side.stream.finished:
                side.stream.more_room(1)
                side.settle()
            self.assertEqual(expanded(bytes(side.stream.sent)), b"0123456789")

    def test_program_breaks(self) -> None:
        """A program that resets its connection resets the stream."""
        with Side(tcp=True) as side:
            side.write(b"half a")
            side.settle()
            linger = (1).to_bytes(4, "little") + bytes(4)
            side.program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            side.program.close()
            side.settle()
            self.assertEqual(side.stream.causes, [Reset.PROGRAM])
            self.assertEqual((side.reactor.readers, side.stream.finished), (set(), False))


class ReceivingTests(SynchronousTestCase):
    @FEW
    @given(texts, places, places)
    def test_any_bytes(self, data: bytes, where: list[int], frames: list[int]) -> None:
        """A frame, however it comes, is what the program gets; all of it is counted as taken."""
        with Side() as side:
            frame = compressed(*cut(data, where))
            for piece in cut(frame, frames):
                side.end.deliver(memoryview(piece))
            side.end.finish()
            self.assertEqual(side.read(), data)
            self.assertEqual((side.stream.taken, side.stream.causes), (len(frame), []))

    def test_slow_program(self) -> None:
        """Bytes are taken when the program has taken what they expand to, and not before."""
        with Side() as side:
            data = bytes(range(256)) * 256 * 64
            frame = compressed(data)
            half = len(frame) // 2
            side.end.deliver(memoryview(frame[:half]))
            side.end.deliver(memoryview(frame[half:]))
            side.end.finish()
            side.settle()
            self.assertEqual(side.stream.taken, 0)
            self.assertEqual(side.read(), data)
            self.assertEqual((side.stream.taken, side.stream.causes), (len(frame), []))

    def test_bomb(self) -> None:
        """No more than a piece is expanded that the program has not taken yet."""
        size = 64 * 1024 * 1024
        bomb = memoryview(compressed(bytes(size)))
        self.assertLess(len(bomb), 64 * 1024)
        held: list[int] = [0]
        deliver, took = SocketEnd.deliver, CompressedEnd.took

        def counted_deliver(end: SocketEnd, data: memoryview) -> None:
            held.append(held[-1] + len(data))
            deliver(end, data)

        def counted_took(end: CompressedEnd, count: int) -> None:
            held.append(held[-1] - count)
            took(end, count)

        self.patch(SocketEnd, "deliver", counted_deliver)
        self.patch(CompressedEnd, "took", counted_took)
        with Side() as side:
            side.end.deliver(bomb)
            side.end.finish()
            side.settle()
            self.assertEqual(side.stream.taken, 0)
            self.assertEqual(len(side.read()), size)
            self.assertEqual((side.stream.taken, side.stream.causes), (len(bomb), []))
        self.assertEqual((max(held), min(held)), (PIECE, 0))

    def taking(self, side: Side) -> list[int]:
        """The program takes all at once; @return: how much, each time."""
        taken: list[int] = []

        def take(end: SocketEnd, data: memoryview) -> None:
            taken.append(len(data))
            side.end.took(len(data))

        self.patch(SocketEnd, "deliver", take)
        return taken

    def test_turns(self) -> None:
        """A program that takes everything at once does not keep the reactor from others."""
        bomb = memoryview(compressed(bytes(32 * PIECE)))
        with Side() as side:
            taken = self.taking(side)
            side.end.deliver(bomb)
            self.assertEqual(sum(taken), 4 * PIECE)
            side.reactor.turn()
            self.assertEqual(sum(taken), 8 * PIECE)
            side.settle()
            self.assertEqual((sum(taken), side.stream.taken), (32 * PIECE, len(bomb)))

    def test_reset_between_turns(self) -> None:
        """Nothing more is expanded after a reset."""
        with Side() as side:
            taken = self.taking(side)
            side.end.deliver(memoryview(compressed(bytes(32 * PIECE))))
            side.end.reset()
            self.assertEqual(side.reactor.getDelayedCalls(), [])
            self.assertEqual((sum(taken), side.stream.taken), (4 * PIECE, 0))

    def assert_refused(self, *pieces: bytes, finish: bool = False) -> None:
        """The stream is reset, once, and the program with it."""
        with Side(tcp=True) as side:
            for piece in pieces:
                side.end.deliver(memoryview(piece))
            if finish:
                side.end.finish()
            side.settle()
            self.assertEqual(side.stream.causes, [Reset.PROTOCOL], pieces)
            self.assertTrue(side.is_reset())
            self.assertEqual((side.reactor.readers, side.reactor.getDelayedCalls()), (set(), []))

    @FEW
    @given(st.binary(min_size=4, max_size=2000), places)
    def test_garbage(self, data: bytes, where: list[int]) -> None:
        """What is not zstd resets the stream."""
        self.assert_refused(*cut(b"GET " + data, where))

    @FEW
    @given(st.binary(max_size=2000), st.integers(0, 1 << 20))
    def test_cut_short(self, data: bytes, where: int) -> None:
        """An end before the end of the frame is an error: nobody takes half a file for a whole."""
        frame = compressed(data)
        self.assert_refused(frame[: where % len(frame)], finish=True)

    @FEW
    @given(st.binary(max_size=2000), st.integers(0, 1 << 20), st.integers(1, 255))
    def test_changed(self, data: bytes, where: int, change: int) -> None:
        """A byte that is not what it was yields other bytes or a reset, and nothing else."""
        frame = bytearray(compressed(data))
        frame[where % len(frame)] ^= change
        with Side(tcp=True) as side:
            side.end.deliver(memoryview(frame))
            side.end.finish()
            side.settle()
            self.assertIn(side.stream.causes, ([], [Reset.PROTOCOL]))
            self.assertEqual(side.is_reset(), bool(side.stream.causes))

    def test_nothing_at_all(self) -> None:
        """Not even a direction without bytes goes without its frame."""
        self.assert_refused(finish=True)

    def test_behind_the_end(self) -> None:
        """A direction is one frame: nothing comes behind it."""
        frame = compressed(b"all")
        self.assert_refused(frame + b"x")
        self.assert_refused(frame, b"x")
        self.assert_refused(frame + frame)

    def test_window(self) -> None:
        """A frame that wants more memory than ours is refused."""
        keys = zstd.zstd.CompressionParameter
        for log, good in ((zstd.WINDOW_LOG, True), (zstd.WINDOW_LOG + 1, False), (27, False)):
            codec = zstd.Compressor(options={keys.window_log: log})
            frame = codec.compress(b"hello", codec.FLUSH_BLOCK)
            if not good:
                self.assert_refused(frame)
                continue
            with Side() as side:
                side.end.deliver(memoryview(frame))
                self.assertEqual(side.read(), b"hello")

    def test_reset(self) -> None:
        """A stream that breaks lets go of everything, also of what was to be expanded later."""
        with Side(tcp=True) as side:
            side.end.deliver(memoryview(compressed(bytes(32 * 1024 * 1024))))
            side.write(b"something")
            side.settle()
            side.end.reset()
            side.end.deliver(memoryview(b"late"))
            side.end.finish()
            side.end.read_on()
            self.assertEqual(
                (side.reactor.readers, side.reactor.writers, side.reactor.getDelayedCalls()),
                (set(), set(), []),
            )
            self.assertTrue(side.is_reset())
            self.assertEqual((side.end._codec, side.end._out._codec), (None, None))
            self.assertEqual(side.stream.causes, [])

    def test_over_for_the_link(self) -> None:
        """A program gets its error also when the stream is over for the link already."""
        with Side(tcp=True) as side:
            self.patch(side.stream, "reset", side.stream.causes.append)
            side.end.deliver(memoryview(b"no frame"))
            self.assertEqual(side.stream.causes, [Reset.PROTOCOL])
            self.assertTrue(side.is_reset())


class BothWaysTests(SynchronousTestCase):
    def test_order_of_the_ends(self) -> None:
        """Whichever direction ends first, both programs get all, and both sockets are closed."""
        for first in (0, 1):
            with Side() as left, Side() as right:
                sides = [left, right]
                if first:
                    sides.reverse()
                for near, far in (sides, sides[::-1]):
                    near.write(b"hello")
                    near.program.shutdown(socket.SHUT_WR)
                    near.settle()
                    self.assertTrue(near.stream.finished)
                    far.end.deliver(memoryview(near.stream.sent))
                    far.end.finish()
                    self.assertEqual(far.read(), b"hello")
                for side in sides:
                    side.settle()
                    self.assertEqual((side.reactor.readers, side.stream.causes), (set(), []))
                    self.assertEqual(side.end._socket.fileno(), -1)
