"""Tests of L{relaytun.wire.frames}."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import example, given, settings, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire import frames
from relaytun.wire.errors import WireError
from relaytun.wire.frames import HEADER, HEADER_SIZE, Frame, Kind, Reader, Reset

#: What a frame says: kind, flags, stream, value, payload.
Said = tuple[int, int, int, int, bytes]

EMPTY = [Kind.WELCOME, Kind.RESUME, Kind.OPEN, Kind.FIN, Kind.RST]
#: The least and the most bytes of each payload that is not empty, told apart from the module.
BOUNDS = {
    Kind.HELLO: (17, 80),
    Kind.DATA: (1, 1024 * 1024),
    Kind.ACK: (8, 8),
    Kind.PING: (0, 16384),
    Kind.PONG: (0, 16384),
    Kind.DATAGRAM: (0, 65535),
}

flags = st.integers(0, 255)
numbers = st.integers(0, 2**64 - 1)


def frame_of(kinds: Iterable[Kind], payloads: st.SearchStrategy[bytes]) -> st.SearchStrategy[Said]:
    """A frame of one of C{kinds}."""
    return st.tuples(st.sampled_from(list(kinds)), flags, numbers, numbers, payloads)


anything = st.one_of(
    frame_of(EMPTY, st.just(b"")),
    frame_of([Kind.HELLO], st.binary(min_size=17, max_size=80)),
    frame_of([Kind.ACK], st.binary(min_size=8, max_size=8)),
    frame_of([Kind.DATA], st.binary(min_size=1, max_size=300)),
    frame_of([Kind.PING, Kind.PONG, Kind.DATAGRAM], st.binary(max_size=300)),
)


def encoded(said: Said) -> bytes:
    """A frame, made from the layout alone."""
    kind, flag, stream, value, payload = said
    parts = [bytes((kind, flag, 0, 0)), len(payload).to_bytes(4, "big")]
    return b"".join([*parts, stream.to_bytes(8, "big"), value.to_bytes(8, "big"), payload])


def read(reader: Reader, data: bytes, cuts: Iterable[int] = ()) -> list[Said]:
    """What comes of C{data}, cut at these places; each piece is worthless after its turn."""
    said: list[Said] = []
    begin = 0
    for end in [*sorted(cuts), len(data)]:
        piece = bytearray(data[begin:end])
        said += [
            (frame.kind, frame.flags, frame.stream, frame.value, bytes(frame.payload))
            for frame in reader.feed(memoryview(piece))
        ]
        piece[:] = b"\xff" * len(piece)
        begin = end
    return said


def joined(said: Iterable[Said]) -> list[Said]:
    """The pieces of DATA, where one goes on from the other, put together."""
    whole: list[Said] = []
    for one in said:
        kind, flag, stream, value, payload = one
        if whole and kind == Kind.DATA:
            before = whole[-1]
            if before[:3] == (kind, flag, stream) and before[3] + len(before[4]) == value:
                whole[-1] = (*before[:4], before[4] + payload)
                continue
        whole.append(one)
    return whole


class ReaderTests(SynchronousTestCase):
    """Bytes to frames."""

    @settings(max_examples=400)
    @given(st.lists(anything, max_size=8), st.data())
    def test_cut_anywhere(self, said: list[Said], data: st.DataObject) -> None:
        """Frames cut at any places come out as they went in, DATA in pieces that join."""
        stream = b"".join(map(encoded, said))
        cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
        self.assertEqual(joined(read(Reader(), stream, cuts)), joined(said))

    @given(st.lists(anything, min_size=1, max_size=4))
    def test_byte_by_byte(self, said: list[Said]) -> None:
        """A byte at a time is as good as all at once, and each byte of DATA is there at once."""
        stream = b"".join(map(encoded, said))
        single = read(Reader(), stream, range(len(stream)))
        self.assertEqual(joined(single), joined(said))
        self.assertEqual(
            sum(kind == Kind.DATA for kind, *_ in single),
            sum(len(payload) for kind, *_, payload in said if kind == Kind.DATA),
        )

    def test_uncut_data_is_one_piece(self) -> None:
        """DATA that comes in one go is handed on in one go, without a copy."""
        data = memoryview(bytearray(encoded((Kind.DATA, 1, 7, 100, b"x" * 1000))))
        (frame,) = Reader().feed(data)
        self.assertEqual(frame, Frame(Kind.DATA, 1, 7, 100, b"x" * 1000))
        assert isinstance(frame.payload, memoryview)
        self.assertIs(frame.payload.obj, data.obj)

    def test_header_alone(self) -> None:
        """A header of DATA without any of its bytes says nothing yet."""
        whole = encoded((Kind.DATA, 1, 7, 100, b"abc"))
        reader = Reader()
        self.assertEqual(read(reader, whole[:HEADER_SIZE]), [])
        self.assertEqual(read(reader, whole[HEADER_SIZE:]), [(Kind.DATA, 1, 7, 100, b"abc")])

    @settings(max_examples=400)
    @given(
        st.one_of(
            st.binary(max_size=200),
            st.builds(
                lambda kind, flag, length, rest: (
                    bytes((kind, flag, 0, 0)) + length.to_bytes(4, "big") + rest
                ),
                st.integers(0, 13),
                flags,
                st.integers(0, 100),
                st.binary(max_size=200),
            ),
        ),
        st.data(),
    )
    def test_garbage(self, garbage: bytes, data: st.DataObject) -> None:
        """Any bytes, cut anywhere, are frames of allowed sizes or a WireError."""
        cuts = data.draw(st.lists(st.integers(0, len(garbage)), max_size=4))
        try:
            said = read(Reader(), garbage, cuts)
        except WireError:
            return
        for kind, *_, payload in said:
            least, most = BOUNDS.get(Kind(kind), (0, 0))
            self.assertTrue(kind == Kind.DATA or least <= len(payload) <= most)

    def test_limits(self) -> None:
        """A payload may have its least and its most bytes, and not one less or more."""
        for kind in Kind:
            least, most = BOUNDS.get(kind, (0, 0))
            for length in {least - 1, least, most, most + 1, 2**32 - 1} - {-1}:
                header = HEADER.pack(kind, 0, 0, length, 1, 2)
                for cuts in ([], [5]):
                    if least <= length <= most:
                        payload = bytes(length)
                        got = joined(read(Reader(), header + payload, cuts))
                        self.assertEqual(got, [(kind, 0, 1, 2, payload)])
                    else:
                        self.assertRaises(WireError, read, Reader(), header, cuts)

    def test_no_kind(self) -> None:
        """Kinds that there are not, and the two bytes that must be zero, are refused."""
        for kind in set(range(256)) - set(Kind):
            self.assertRaises(WireError, read, Reader(), HEADER.pack(kind, 0, 0, 0, 0, 0))
        for zero in (1, 0x100):
            self.assertRaises(
                WireError, read, Reader(), HEADER.pack(Kind.PING, 0, zero, 0, 0, 0), [9]
            )

    @given(anything, st.data())
    def test_holds_little(self, said: Said, data: st.DataObject) -> None:
        """A beginning yields no frame other than DATA, and is held until its rest comes."""
        whole = encoded(said)
        cut = data.draw(st.integers(0, len(whole) - 1))
        reader = Reader()
        early = read(reader, whole[:cut])
        self.assertTrue(all(kind == Kind.DATA for kind, *_ in early))
        self.assertEqual(joined(early + read(reader, whole[cut:])), [said])


class WriterTests(SynchronousTestCase):
    """Frames to bytes."""

    @given(st.sampled_from(EMPTY), numbers, numbers, flags)
    def test_header(self, kind: Kind, stream: int, value: int, flag: int) -> None:
        """A frame without payload is its header, as the layout has it."""
        self.assertEqual(
            frames.header(kind, stream, value, flag), encoded((kind, flag, stream, value, b""))
        )

    @given(st.integers(0, 1), numbers, st.binary(min_size=16, max_size=16), st.booleans())
    def test_hello(self, slot: int, generation: int, link: bytes, fresh: bool) -> None:
        """HELLO names slot, generation, link and service, and whether the link may be new."""
        self.assertEqual(
            frames.hello(slot, generation, link, "ssh", fresh),
            encoded((Kind.HELLO, int(fresh), slot, generation, link + b"ssh")),
        )

    @given(numbers, numbers, numbers)
    @example(1, 2**64 - 1, 2**64 - 1)
    def test_ack(self, stream: int, received: int, limit: int) -> None:
        """ACK tells what was received, and the limit."""
        data = frames.ack(stream, received, limit)
        self.assertEqual(data, encoded((Kind.ACK, 0, stream, received, limit.to_bytes(8, "big"))))
        (frame,) = Reader().feed(memoryview(data))
        self.assertEqual((frame.stream, frame.value, frame.limit), (stream, received, limit))

    @given(numbers, st.binary(max_size=100), st.booleans())
    def test_pong(self, value: int, payload: bytes, viewed: bool) -> None:
        """A PING is answered with what it says."""
        ping = Frame(Kind.PING, 0, 0, value, memoryview(payload) if viewed else payload)
        self.assertEqual(frames.pong(ping), encoded((Kind.PONG, 0, 0, value, payload)))

    def test_probe(self) -> None:
        """One that fills packets is a PING like any other."""
        (frame,) = Reader().feed(memoryview(frames.probe()))
        self.assertEqual((frame.kind, len(frame.payload)), (Kind.PING, frames.PROBE))
        self.assertEqual(len(frames.pong(frame)), HEADER_SIZE + frames.PROBE)

    @given(numbers, st.binary(max_size=100), st.booleans())
    def test_datagram(self, flow: int, payload: bytes, viewed: bool) -> None:
        """A datagram is framed whatever kind of bytes it is."""
        given_as = memoryview(payload) if viewed else payload
        self.assertEqual(
            frames.datagram(flow, given_as), encoded((Kind.DATAGRAM, 0, flow, 0, payload))
        )

    @given(numbers, numbers, st.binary(min_size=1, max_size=100), flags)
    def test_data_in_place(self, stream: int, offset: int, data: bytes, flag: int) -> None:
        """A header is written before the bytes that stand there, and nothing else is touched."""
        buffer = bytearray(HEADER_SIZE) + data + b"behind"
        frames.data_header_into(memoryview(buffer), stream, offset, len(data), flag)
        self.assertEqual(
            bytes(buffer), encoded((Kind.DATA, flag, stream, offset, data)) + b"behind"
        )


class WordsTests(SynchronousTestCase):
    """Numbers that other programs know by heart."""

    def test_numbers(self) -> None:
        """Kinds, causes and flags never change."""
        self.assertEqual(HEADER_SIZE, 24)
        self.assertEqual((frames.FRESH, frames.ZSTD, frames.ACK_NOW), (1, 1, 1))
        self.assertEqual(
            " ".join(kind.name for kind in sorted(Kind)),
            "HELLO WELCOME RESUME OPEN DATA ACK FIN RST PING PONG DATAGRAM",
        )
        self.assertEqual(list(Kind), list(range(1, 12)))
        self.assertEqual(
            " ".join(cause.name for cause in sorted(Reset)),
            "OVER PROGRAM SERVICE PROTOCOL TIMEOUT SHUTDOWN UNKNOWN LIMIT STALE FORBIDDEN "
            "COMPRESSION SLOW",
        )
        self.assertEqual(list(Reset), list(range(12)))

    def test_cause(self) -> None:
        """What a frame's value means; one that nobody knows breaks the rules."""
        for cause in Reset:
            self.assertIs(Reset.of(cause.value), cause)
        for value in (len(Reset), 2**64 - 1):
            self.assertIs(Reset.of(value), Reset.PROTOCOL)
