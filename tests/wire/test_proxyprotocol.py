"""Tests of L{relaytun.wire.proxyprotocol}."""

from __future__ import annotations

import contextlib
import ipaddress
import struct

from hypothesis import example, given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire import proxyprotocol
from relaytun.wire.errors import WireError
from relaytun.wire.proxyprotocol import MAX_V1, Header, HeaderReader, Place

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

versions = st.sampled_from(["v1", "v2"])
ports = st.integers(0, 65535)
four = st.tuples(st.ip_addresses(v=4).map(str), ports)
six = st.tuples(
    st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None).map(str), ports
)


def read(data: bytes) -> Header | None:
    """What a header says; nothing may be left of C{data}."""
    reader = HeaderReader()
    assert reader.feed(data) == len(data)
    return reader.header


class ProxyProtocolTests(SynchronousTestCase):
    @given(versions, st.one_of(st.tuples(four, four), st.tuples(six, six)), st.binary(max_size=9))
    def test_round_trip(self, version: str, ends: tuple[Place, Place], rest: bytes) -> None:
        """What is written is read, in one piece or byte by byte, and no byte behind it."""
        data = proxyprotocol.encode(version, *ends)
        reader = HeaderReader()
        self.assertEqual(reader.feed(data + rest), len(data))
        self.assertEqual(reader.header, Header(*ends))
        reader = HeaderReader()
        for number in range(len(data)):
            self.assertIsNone(reader.header)
            self.assertEqual(reader.feed(data[number : number + 1]), 1)
        self.assertEqual(reader.header, Header(*ends))

    @given(versions, four, six)
    def test_mixed(self, version: str, one: Place, other: Place) -> None:
        """IPv4 beside IPv6 is written as the IPv6 that it is mapped into."""
        header = read(proxyprotocol.encode(version, one, other))
        assert header is not None and header.source is not None
        mapped = ipaddress.ip_address(header.source[0])
        self.assertEqual(str(getattr(mapped, "ipv4_mapped", None)), one[0])
        self.assertEqual(header.destination, other)

    def test_mapped(self) -> None:
        """An IPv4 address that a dual socket shows as IPv6 is one of IPv4; a zone is left out."""
        self.assertEqual(
            proxyprotocol.encode("v1", ("::ffff:1.2.3.4", 5), ("6.7.8.9", 10)),
            b"PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n",
        )
        self.assertEqual(
            proxyprotocol.encode("v1", ("fe80::1%eth0", 5), ("::1", 10)),
            b"PROXY TCP6 fe80::1 ::1 5 10\r\n",
        )

    @given(versions)
    def test_unknown(self, version: str) -> None:
        """What has no address is unknown."""
        for ends in ((None, ("1.2.3.4", 5)), (("", 0), ("1.2.3.4", 5)), (("1.2.3.4", 5), None)):
            header = read(proxyprotocol.encode(version, *ends))
            self.assertEqual(header, Header(None, None))

    @given(st.lists(st.binary(max_size=300), max_size=6), st.sampled_from([b"", SIGNATURE]))
    @example([b"PROXY TCP4 ", b"x" * 200], b"")
    def test_garbage(self, parts: list[bytes], start: bytes) -> None:
        """Whatever comes is a header, not whole, or a L{WireError}."""
        reader = HeaderReader()
        with contextlib.suppress(WireError):
            for part in [start, *parts]:
                if reader.header is None:
                    self.assertLessEqual(reader.feed(part), len(part))

    def test_v1_refused(self) -> None:
        """Lines that say nothing clear are refused, and so is one that never ends."""
        for line in (
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
            b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY UNKNOWNS\r\n",
            b"PROXY TCP4 " + b"1" * MAX_V1,
        ):
            with self.assertRaises(WireError):
                HeaderReader().feed(line)
        self.assertEqual(read(b"PROXY UNKNOWN ffff:: ::1 1 2\r\n"), Header(None, None))

    def test_v2_kinds(self) -> None:
        """Health checks and addresses of other kinds come from nowhere in particular."""
        addresses = bytes(range(12))
        for command, kind in ((0x20, 0x11), (0x20, 0xFF), (0x21, 0x00), (0x21, 0x31)):
            data = SIGNATURE + struct.pack("!BBH", command, kind, 12) + addresses
            self.assertEqual(read(data), Header(None, None))
        data = SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 20) + addresses + b"TLVs too"
        header = Header(("0.1.2.3", 0x0809), ("4.5.6.7", 0x0A0B))
        self.assertEqual(read(data), header)

    def test_v2_refused(self) -> None:
        """Other versions, commands and kinds are refused, and what is too long or too short."""
        for command, kind, size in (
            (0x11, 0x11, 12),
            (0x22, 0x11, 12),
            (0x21, 0x41, 12),
            (0x21, 0x21, 12),
            (0x21, 0x11, 5000),
        ):
            data = SIGNATURE + struct.pack("!BBH", command, kind, size) + bytes(12)
            with self.assertRaises(WireError):
                HeaderReader().feed(data)
