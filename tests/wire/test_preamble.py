"""Tests of L{relaytun.wire.preamble}."""

from __future__ import annotations

import contextlib
import hashlib
import hmac

from hypothesis import example, given, settings, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire import preamble
from relaytun.wire.errors import WireError
from relaytun.wire.preamble import Preamble, Refusal, Role

KEY = bytes(range(32))
SESSION = bytes(range(100, 116))
NONCE = bytes(range(200, 216))

keys = st.binary(min_size=32, max_size=32)
sixteen = st.binary(min_size=16, max_size=16)
channels = st.integers(0, 2**64 - 1)
#: Role and spare flag, as far as they go together.
kinds = st.sampled_from([(Role.VISITOR, False), (Role.PROVIDER, False), (Role.PROVIDER, True)])


def tag(key: bytes, signed: bytes) -> bytes:
    """The tag, made without the module that is tested."""
    return hmac.new(key, signed, hashlib.sha256).digest()[:16]


class RoundTripTests(SynchronousTestCase):
    """What one side writes the other reads."""

    @given(keys, kinds, sixteen, channels, sixteen)
    def test_round_trip(
        self, key: bytes, kind: tuple[Role, bool], session: bytes, channel: int, nonce: bytes
    ) -> None:
        """Every field comes out as it went in, and the tag is good for this key alone."""
        role, spare = kind
        data = preamble.encode(key, role, session, channel, nonce, spare)
        read = preamble.decode(data)
        self.assertEqual(
            (read.role, read.spare, read.session, read.channel, read.nonce),
            (role, spare, session, channel, nonce),
        )
        self.assertTrue(read.is_authentic(key))
        other = bytes((key[0] ^ 1,)) + key[1:]
        self.assertFalse(read.is_authentic(other))

    @given(keys, kinds, sixteen, channels, sixteen)
    def test_layout(
        self, key: bytes, kind: tuple[Role, bool], session: bytes, channel: int, nonce: bytes
    ) -> None:
        """Each of the 64 bytes is where the protocol puts it, numbers most significant first."""
        role, spare = kind
        data = preamble.encode(key, role, session, channel, nonce, spare)
        self.assertEqual(len(data), 64)
        self.assertEqual(data[0:4], b"RTN1")
        self.assertEqual(data[4], {Role.VISITOR: 1, Role.PROVIDER: 2}[role])
        self.assertEqual(data[5], 1 if spare else 0)
        self.assertEqual(data[6:8], b"\0\0")
        self.assertEqual(data[8:24], session)
        self.assertEqual(data[24:32], channel.to_bytes(8, "big"))
        self.assertEqual(data[32:48], nonce)
        self.assertEqual(data[48:64], tag(key, data[:48]))

    def test_written_by_hand(self) -> None:
        """A preamble that another program makes from the layout alone is read and believed."""
        signed = b"RTN1\x02\x01\0\0" + SESSION + b"\0\0\0\0\0\0\x01\x02" + NONCE
        read = preamble.decode(signed + tag(KEY, signed))
        self.assertEqual(
            read,
            Preamble(Role.PROVIDER, True, SESSION, 258, NONCE, signed, tag(KEY, signed)),
        )
        self.assertTrue(read.is_authentic(KEY))


class ForgeryTests(SynchronousTestCase):
    """What is not exactly right is not taken."""

    def test_every_bit(self) -> None:
        """With any one of its 512 bits flipped it is no preamble, or is not authentic."""
        for role, spare in [(Role.VISITOR, False), (Role.PROVIDER, False), (Role.PROVIDER, True)]:
            data = preamble.encode(KEY, role, SESSION, 7, NONCE, spare)
            for bit in range(512):
                flipped = bytearray(data)
                flipped[bit // 8] ^= 1 << bit % 8
                with contextlib.suppress(WireError):
                    self.assertFalse(preamble.decode(bytes(flipped)).is_authentic(KEY))

    def test_every_header(self) -> None:
        """Of all the values of bytes 4 to 7, three are good, tagged or not."""
        rest = SESSION + bytes(8) + NONCE
        good = {b"\x01\0\0\0", b"\x02\0\0\0", b"\x02\x01\0\0"}
        heads = {bytes((role, flags, 0, 0)) for role in range(256) for flags in range(256)}
        heads |= {bytes((role, 0, high, low)) for role in (1, 2) for high, low in ((0, 1), (1, 0))}
        for head in heads:
            signed = b"RTN1" + head + rest
            if head in good:
                self.assertTrue(preamble.decode(signed + tag(KEY, signed)).is_authentic(KEY))
            else:
                self.assertRaises(WireError, preamble.decode, signed + tag(KEY, signed))

    def test_length(self) -> None:
        """A byte more or less is no preamble."""
        data = preamble.encode(KEY, Role.VISITOR, SESSION, 0, NONCE)
        for wrong in (b"", data[:63], data + b"\0"):
            self.assertRaises(WireError, preamble.decode, wrong)

    @settings(max_examples=300)
    @given(
        st.one_of(
            st.binary(max_size=130),
            st.binary(min_size=60, max_size=60).map(b"RTN1".__add__),
            st.binary(min_size=56, max_size=56).map(b"RTN1\x01\0\0\0".__add__),
        )
    )
    @example(b"RTN1\x01\0\0\0" + b"\xff" * 56)
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are a preamble or a WireError, and none that a stranger makes is authentic."""
        try:
            read = preamble.decode(data)
        except WireError:
            return
        self.assertIsInstance(read.role, Role)
        self.assertFalse(read.is_authentic(KEY))


class FirstBytesTests(SynchronousTestCase):
    """What is seen before all 64 bytes are there."""

    def test_each_beginning(self) -> None:
        """Each beginning of a preamble can still become one."""
        data = preamble.encode(KEY, Role.PROVIDER, SESSION, 0, NONCE)
        for length in range(65):
            self.assertTrue(preamble.could_be(data[:length]))

    @given(st.one_of(st.binary(max_size=64), st.binary(max_size=3).map(b"RT".__add__)))
    def test_others(self, data: bytes) -> None:
        """What differs from the magic in any of its bytes cannot."""
        differs = any(byte != b"RTN1"[place] for place, byte in enumerate(data[:4]))
        self.assertEqual(preamble.could_be(data), not differs)


class WordsTests(SynchronousTestCase):
    """Numbers that other programs know by heart."""

    def test_roles(self) -> None:
        """The visitor is 1, the provider is 2, and each is the other's partner."""
        self.assertEqual((Role.VISITOR, Role.PROVIDER), (1, 2))
        self.assertIs(Role.VISITOR.other, Role.PROVIDER)
        self.assertIs(Role.PROVIDER.other, Role.VISITOR)

    def test_answers(self) -> None:
        """Plus and minus, and the codes behind the minus, never change."""
        self.assertEqual((preamble.PAIRED, preamble.REFUSED), (b"+", b"-"))
        self.assertEqual(
            {refusal.name: refusal.value for refusal in Refusal},
            {
                "MALFORMED": 1,
                "UNAUTHORIZED": 2,
                "REPLAYED": 3,
                "DUPLICATE": 4,
                "NOT_LIVE": 5,
                "LONELY": 6,
                "LIMIT": 7,
            },
        )
