"""Tests of L{relaytun.wire.natpmp}, against bytes written down from RFC 6886."""

from __future__ import annotations

import contextlib

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire.errors import WireError
from relaytun.wire.natpmp import (
    Address,
    Mapping,
    Refusal,
    decode,
    encode_address_request,
    encode_mapping_request,
)


class EncodeTests(SynchronousTestCase):
    def test_questions(self) -> None:
        """They look as the RFC draws them (sections 3.2 and 3.3)."""
        self.assertEqual(encode_address_request(), b"\0\0")
        self.assertEqual(
            encode_mapping_request("udp", 4096, 8080, 600),
            bytes.fromhex("00 01 0000 1000 1f90 00000258"),
        )
        self.assertEqual(
            encode_mapping_request("tcp", 1, 0, 0), bytes.fromhex("00 02 0000 0001 0000 00000000")
        )


class DecodeTests(SynchronousTestCase):
    def test_address(self) -> None:
        """The outer address, and since when the router counts."""
        data = bytes.fromhex("00 80 0000 00000010 cb007105")
        self.assertEqual(decode(data), Address("203.0.113.5", 16))

    def test_mapping(self) -> None:
        """What was given, which need not be what was wished for."""
        for operation, protocol in (("81", "udp"), ("82", "tcp")):
            data = bytes.fromhex(f"00 {operation} 0000 00000010 1000 1f91 00000078")
            self.assertEqual(decode(data), Mapping(protocol, 4096, 8081, 120, 16))

    def test_refusal(self) -> None:
        """A code says why, whatever follows it, or nothing."""
        self.assertEqual(decode(bytes.fromhex("00 80 0001 00000000")), Refusal(1))
        refusal = decode(bytes.fromhex("00 81 0002 00000010 1000 1f91 00000078"))
        self.assertEqual(refusal, Refusal(2))
        assert isinstance(refusal, Refusal)
        self.assertEqual(refusal.reason, "not authorized")
        self.assertEqual(Refusal(99).reason, "code 99")

    def test_nonsense(self) -> None:
        """What is no answer is an error."""
        for text in (
            "",
            "00 80 0000 000000",
            "02 80 0000 00000010 cb007105",
            "00 00 0000 00000010 cb007105",
            "00 80 0000 00000010 cb0071",
            "00 81 0000 00000010 cb007105",
            "00 83 0000 00000010 1000 1f91 00000078",
        ):
            self.assertRaises(WireError, decode, bytes.fromhex(text))

    @given(st.binary(max_size=20) | st.binary(max_size=16).map(lambda rest: b"\0\x81" + rest))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes, it is an answer or a L{WireError}."""
        with contextlib.suppress(WireError):
            self.assertIsInstance(decode(data), (Address, Mapping, Refusal))
