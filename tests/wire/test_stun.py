"""Tests of L{relaytun.wire.stun}."""

from __future__ import annotations

import contextlib
import ipaddress

from hypothesis import example, given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire import stun
from relaytun.wire.datagram import HEADER
from relaytun.wire.errors import WireError
from relaytun.wire.preamble import MAGIC as MAGIC_OF_LEGS
from relaytun.wire.stun import (
    LARGEST,
    MAGIC,
    Answer,
    Refusal,
    Request,
    could_be,
    decode,
    encode_answer,
    encode_refusal,
    encode_request,
    may_be_message,
    message_size,
)

TRANSACTION = bytes(range(12))
transactions = st.binary(min_size=12, max_size=12)
ports = st.integers(0, 65535)


def message(kind: int, attributes: bytes, length: int | None = None) -> bytes:
    length = len(attributes) if length is None else length
    return kind.to_bytes(2, "big") + length.to_bytes(2, "big") + MAGIC + TRANSACTION + attributes


class StunTests(SynchronousTestCase):
    """Binding requests and their answers."""

    @given(transactions)
    def test_request(self, transaction: bytes) -> None:
        """A request asks for nothing that a server would have to know."""
        self.assertEqual(decode(encode_request(transaction)), Request(transaction))

    @given(transactions, st.ip_addresses(), ports)
    @example(TRANSACTION, ipaddress.ip_address("fe80::1%eth0"), 1)
    def test_answer(
        self,
        transaction: bytes,
        address: ipaddress.IPv4Address | ipaddress.IPv6Address,
        port: int,
    ) -> None:
        """An answer brings the address, and is no larger than the question."""
        data = encode_answer(transaction, str(address), port)
        told = ipaddress.ip_address(str(address).partition("%")[0])
        told = getattr(told, "ipv4_mapped", None) or told
        self.assertEqual(decode(memoryview(data)), Answer(transaction, str(told), port))
        self.assertLessEqual(len(data), len(encode_request(transaction)))

    def test_known_answers(self) -> None:
        """The addresses of RFC 5769, sections 2.2 and 2.3, are read as they say."""
        transaction = bytes.fromhex("b7e7a701bc34d686fa87dfae")
        head = bytes.fromhex("2112a442") + transaction
        attribute = bytes.fromhex("002000080001a147e112a643")
        self.assertEqual(
            decode(bytes.fromhex("0101000c") + head + attribute),
            Answer(transaction, "192.0.2.1", 32853),
        )
        attribute = bytes.fromhex("002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9")
        self.assertEqual(
            decode(bytes.fromhex("01010018") + head + attribute),
            Answer(transaction, "2001:db8:1234:5678:11:2233:4455:6677", 32853),
        )

    def test_mapped(self) -> None:
        """An IPv4 peer of an IPv6 socket is told its IPv4 address."""
        data = encode_answer(TRANSACTION, "::ffff:192.0.2.7", 9)
        self.assertEqual(decode(data), Answer(TRANSACTION, "192.0.2.7", 9))

    @given(transactions, st.integers(300, 699), st.lists(ports, max_size=4).map(tuple))
    def test_refusal(self, transaction: bytes, code: int, unknown: tuple[int, ...]) -> None:
        """An error has its code."""
        data = encode_refusal(transaction, code, unknown)
        self.assertEqual(decode(data), Refusal(transaction, code))

    def test_reason(self) -> None:
        """What a server says beside the code cannot disturb a terminal."""
        told = decode(message(0x0111, bytes.fromhex("00090007 00000414") + b"No\x1b\0"))
        assert isinstance(told, Refusal)
        self.assertEqual((told.code, told.reason.isprintable()), (420, True))

    def test_unknown(self) -> None:
        """A request that must be understood in full tells what is in it, each thing once."""
        attribute = bytes.fromhex("00030004 00000006")
        data = message(1, attribute * 2 + bytes.fromhex("80220001 41000000"))
        self.assertEqual(decode(data), Request(TRANSACTION, (3,)))

    def test_first_counts(self) -> None:
        """Of two addresses the first one counts."""
        one, other = (encode_answer(TRANSACTION, f"192.0.2.{n}", n)[20:] for n in (1, 2))
        self.assertEqual(decode(message(0x0101, one + other)), Answer(TRANSACTION, "192.0.2.1", 1))

    def test_malformed(self) -> None:
        """What is cut, too long, of another kind, or without its point is refused."""
        good = encode_request(TRANSACTION)
        bad = [
            b"",
            good[:-1],
            good[:-4],
            good + b"\0" * 4,
            b"\x40" + good[1:],
            good[:4] + b"\0" + good[5:],
            message(1, b"\0\0"),
            message(1, b"\0" * 4, 8),
            message(1, bytes.fromhex("80220005 41000000")),
            message(1, b"\0" * 532),
            message(2, b""),
            message(0x0011, b""),
            message(0x0101, b""),
            message(0x0101, bytes.fromhex("00200008 0003000000000000")),
            message(0x0101, bytes.fromhex("00200008 0002000000000000")),
            message(0x0101, bytes.fromhex("00200004 00010000")),
            message(0x0111, b""),
            message(0x0111, bytes.fromhex("00090004 00000200")),
            message(0x0111, bytes.fromhex("00090004 00000700")),
            message(0x0111, bytes.fromhex("00090004 00000464")),
        ]
        for data in bad:
            self.assertRaises(WireError, decode, data)

    @given(
        st.one_of(
            st.binary(max_size=64),
            st.tuples(
                st.sampled_from([1, 0x0101, 0x0111]), st.binary(max_size=64).map(lambda b: b * 4)
            ).map(lambda parts: message(*parts)),
        )
    )
    def test_anything(self, data: bytes) -> None:
        """Any bytes are a message or a WireError."""
        with contextlib.suppress(WireError):
            self.assertIsInstance(decode(data), Request | Answer | Refusal)
            self.assertTrue(may_be_message(data))

    @given(st.binary(max_size=LARGEST), st.integers(0, 2**32 - 1))
    def test_no_datagram(self, data: bytes, session: int) -> None:
        """A packet of the relay's datagrams is never taken for STUN."""
        self.assertFalse(may_be_message(HEADER.pack(session, len(data)) + data))


class StreamTests(SynchronousTestCase):
    """Messages in a stream."""

    def test_size(self) -> None:
        """The size is known as soon as the cookie is there, and never guessed before."""
        data = encode_request(TRANSACTION) + b"more"
        for size in range(len(data)):
            self.assertEqual(message_size(data[:size]), None if size < 8 else len(data) - 4)
            self.assertTrue(could_be(data[:size]))

    def test_strangers(self) -> None:
        """What is not STUN is told from it at the first byte that differs."""
        good = encode_request(TRANSACTION)
        for bad in (
            b"GET",
            good[:4] + b"x",
            b"\x40" + good[1:],
            good[:4] + b"none",
            b"\0\1\0\3" + MAGIC,
            b"\0\1\x7f\xfc" + MAGIC,
        ):
            self.assertRaises(WireError, message_size, bad)
            self.assertFalse(could_be(bad))
        self.assertFalse(could_be(MAGIC_OF_LEGS))

    @given(st.binary(max_size=40))
    def test_anything(self, data: bytes) -> None:
        """Any bytes are a beginning, a size within bounds, or a WireError."""
        with contextlib.suppress(WireError):
            size = message_size(data)
            self.assertTrue(size is None or stun.HEADER_SIZE <= size <= LARGEST)
