"""Tests of L{relaytun.wire.pcp}, against bytes written down from RFC 6887."""

from __future__ import annotations

import contextlib

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire.errors import WireError
from relaytun.wire.pcp import (
    Mapping,
    Refusal,
    decode,
    encode_mapping_request,
    reason,
)

_NONCE = bytes(range(12))
_V4 = "00000000000000000000ffff"
_BODY = f"000102030405060708090a0b 11 000000 1000 1f90 {_V4}cb007105"


class EncodeTests(SynchronousTestCase):
    def test_first(self) -> None:
        """Without a wish address and port are the unspecified ones (section 11.1)."""
        self.assertEqual(
            encode_mapping_request(_NONCE, "192.168.1.10", "udp", 4096, None, 600),
            bytes.fromhex(
                f"02 01 0000 00000258 {_V4}c0a8010a"
                f"000102030405060708090a0b 11 000000 1000 0000 {_V4}00000000"
            ),
        )

    def test_again(self) -> None:
        """A renewal wishes for what there is."""
        self.assertEqual(
            encode_mapping_request(_NONCE, "192.168.1.10", "tcp", 1, ("203.0.113.5", 8080), 0),
            bytes.fromhex(
                f"02 01 0000 00000000 {_V4}c0a8010a"
                f"000102030405060708090a0b 06 000000 0001 1f90 {_V4}cb007105"
            ),
        )

    def test_six(self) -> None:
        """An IPv6 client wishes for any IPv6 address."""
        data = encode_mapping_request(_NONCE, "2001:db8::1", "udp", 1, None, 1)
        self.assertEqual(data[8:24], bytes.fromhex("20010db8000000000000000000000001"))
        self.assertEqual(data[-16:], bytes(16))


class DecodeTests(SynchronousTestCase):
    def test_mapping(self) -> None:
        """What was given, for how long, and to whom."""
        data = bytes.fromhex(f"02 81 00 00 00000078 00000010 {'00' * 12} {_BODY}")
        mapping = Mapping(0, _NONCE, "udp", 4096, "203.0.113.5", 8080, 120, 16)
        self.assertEqual(decode(data), mapping)
        self.assertEqual(decode(data + bytes(8)), mapping, "options are passed over")

    def test_six(self) -> None:
        """The outer address may be one of IPv6."""
        body = _BODY.replace(f"{_V4}cb007105", "20010db8000000000000000000000001")
        data = bytes.fromhex(f"02 81 00 00 00000078 00000010 {'00' * 12} {body}")
        answer = decode(data)
        assert isinstance(answer, Mapping)
        self.assertEqual(answer.external_address, "2001:db8::1")

    def test_refusal(self) -> None:
        """A refusal repeats the question, or has a head only."""
        head = f"02 81 00 08 0000001e 00000010 {'00' * 12}"
        answer = decode(bytes.fromhex(f"{head} {_BODY}"))
        assert isinstance(answer, Mapping)
        self.assertEqual((answer.code, answer.nonce), (8, _NONCE))
        self.assertEqual(decode(bytes.fromhex(head)), Refusal(8))
        self.assertEqual((reason(8), reason(99)), ("no resources", "code 99"))

    def test_nonsense(self) -> None:
        """What is no answer is an error."""
        rest = f"00000078 00000010 {'00' * 12}"
        for text in (
            "",
            f"00 81 00 00 {rest} {_BODY}",
            f"02 01 00 00 {rest} {_BODY}",
            f"02 82 00 00 {rest} {_BODY}",
            f"02 81 00 00 {rest}",
            f"02 81 00 00 {rest} {_BODY.replace(' 11 ', ' 01 ')}",
            f"02 81 00 00 {rest} {_BODY} {'00' * 1044}",
        ):
            self.assertRaises(WireError, decode, bytes.fromhex(text))

    @given(st.binary(max_size=70) | st.binary(max_size=70).map(lambda rest: b"\2\x81" + rest))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes, it is an answer or a L{WireError}."""
        with contextlib.suppress(WireError):
            self.assertIsInstance(decode(data), (Mapping, Refusal))
