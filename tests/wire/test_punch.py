"""Tests of L{relaytun.wire.punch}."""

from __future__ import annotations

import contextlib

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire.errors import WireError
from relaytun.wire.punch import (
    FULL_SIZE,
    MAGIC,
    SIZE,
    Kind,
    Speech,
    decode,
    encode,
    is_punch,
    session_of,
)

KEY = bytes(range(32))
SESSION = bytes(range(16))
TRANSACTION = b"question"
KINDS = st.sampled_from(Kind)
COUNTERS = st.integers(0, 2**63 - 1)
QUESTIONS = [Kind.PING, Kind.ECHO, Kind.USE]


class PacketTests(SynchronousTestCase):
    @given(
        st.binary(min_size=16, max_size=16),
        st.binary(min_size=8, max_size=8),
        st.booleans(),
        KINDS,
        COUNTERS,
    )
    def test_round_trip(
        self, session: bytes, transaction: bytes, initiator: bool, kind: Kind, counter: int
    ) -> None:
        """What is encoded is decoded, and authentic with the right key only."""
        data = encode(KEY, session, transaction, initiator, kind, counter)
        punch = decode(memoryview(data))
        self.assertEqual(
            (punch.session, punch.transaction, punch.from_initiator, punch.kind, punch.counter),
            (session, transaction, initiator, kind, counter),
        )
        self.assertTrue(punch.is_authentic(KEY))
        self.assertFalse(punch.is_authentic(bytes(32)))
        self.assertTrue(is_punch(data))
        self.assertLess(data[0], 0x40)

    @given(KINDS, st.data())
    def test_every_byte_counts(self, kind: Kind, draw: st.DataObject) -> None:
        """No byte of a packet, padding included, can be changed unnoticed."""
        data = bytearray(encode(KEY, SESSION, TRANSACTION, True, kind, 1))
        data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
        with contextlib.suppress(WireError):
            self.assertFalse(decode(data).is_authentic(KEY))

    @given(st.binary(max_size=64) | st.binary(min_size=52, max_size=52).map(MAGIC.__add__))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes is decoded or refused, and never authentic."""
        with contextlib.suppress(WireError):
            self.assertFalse(decode(data).is_authentic(KEY))
        self.assertIsNone(Speech(KEY, SESSION, True).understand(data))

    def test_strict(self) -> None:
        """A wrong size, magic, flag, or padding is refused, whoever signed it."""
        ping = encode(KEY, SESSION, TRANSACTION, True, Kind.PING, 1)
        echo = encode(KEY, SESSION, TRANSACTION, True, Kind.ECHO, 1)
        for data, word in [
            (ping[:-1], "no punch packet"),
            (ping + b"\0", "no punch packet"),
            (b"x" + ping[1:], "not a punch"),
            (ping[:28] + b"\2" + ping[29:], "flags"),
            (ping[:29] + b"\6" + ping[30:], "flags"),
            (ping[:30] + b"\0\1" + ping[32:], "flags"),
            (ping[:29] + b"\2" + ping[30:], "wrong size"),
            (ping[:32] + b"\xff" + ping[33:], "flags"),
            (echo[:29] + b"\0" + echo[30:], "wrong size"),
            (echo[:100] + b"\1" + echo[101:], "padding"),
        ]:
            error = self.assertRaises(WireError, decode, data)
            self.assertIn(word, str(error))

    def test_sizes(self) -> None:
        """Only the two echoes are full-size."""
        for kind in Kind:
            size = FULL_SIZE if kind in (Kind.ECHO, Kind.ECHOED) else SIZE
            self.assertEqual(len(encode(KEY, SESSION, TRANSACTION, False, kind, 1)), size)

    @given(st.lists(st.binary(max_size=4), max_size=3), st.lists(st.binary(max_size=4), max_size=3))
    def test_session_of(self, one: list[bytes], other: list[bytes]) -> None:
        """Different attempts have different names, however their parts are cut."""
        self.assertEqual(len(session_of(*one)), 16)
        self.assertEqual(session_of(*one) == session_of(*other), one == other)


class SpeechTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.one = Speech(KEY, SESSION, True)
        self.other = Speech(KEY, SESSION, False)

    @given(st.sampled_from(QUESTIONS))
    def test_answer(self, kind: Kind) -> None:
        """An answer repeats the transaction and is as large as its question."""
        data = self.one.question(kind, TRANSACTION)
        question = self.other.understand(data)
        assert question is not None
        self.assertEqual(question.kind, kind)
        reply = self.other.answer(question)
        self.assertEqual(len(reply), len(data))
        answer = self.one.understand(reply)
        assert answer is not None
        self.assertEqual((answer.kind, answer.transaction), (kind + 1, TRANSACTION))

    def test_refused(self) -> None:
        """Replays, reflections, forgeries, other attempts and other protocols are nothing."""
        data = self.one.question(Kind.PING, TRANSACTION)
        self.assertIsNone(self.one.understand(data))
        self.assertIsNone(self.other.understand(data[:-1] + bytes([data[-1] ^ 1])))
        self.assertIsNone(Speech(KEY, bytes(16), False).understand(data))
        self.assertIsNone(Speech(bytes(32), SESSION, False).understand(data))
        self.assertIsNone(self.other.understand(b"\x40" + data[1:]))
        self.assertIsNone(self.other.understand(MAGIC))
        self.assertIsNotNone(self.other.understand(data))
        self.assertIsNone(self.other.understand(data))

    def test_session_size(self) -> None:
        """A session of another size is a mistake of ours."""
        self.assertRaises(ValueError, Speech, KEY, b"short", True)
