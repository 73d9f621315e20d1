"""Tests of L{relaytun.wire.clienthello}."""

from __future__ import annotations

import contextlib
import ssl

from hypothesis import given, strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire.clienthello import MAX_SIZE, ClientHello, peek
from relaytun.wire.errors import WireError

labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)
names = st.lists(labels, min_size=1, max_size=5).map(".".join)
protocols = st.lists(st.binary(min_size=1, max_size=20), max_size=4).map(tuple)
#: Extensions that are stepped over: unknown ones and GREASE.
others = st.lists(
    st.tuples(st.sampled_from([0x0A0A, 0xFAFA, 10, 11, 13, 43, 51, 65281]), st.binary(max_size=90)),
    max_size=5,
    unique_by=lambda extension: extension[0],
)


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, content)


def server_name(name: bytes) -> bytes:
    return extension(0, vector(2, b"\0" + vector(2, name)))


def alpn(*offered: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, each) for each in offered)))


def message(*extensions: bytes) -> bytes:
    """A ClientHello as a handshake message."""
    body = (
        b"\x03\x03" + bytes(32) + vector(1, bytes(32)) + vector(2, b"\x13\x01") + vector(1, b"\0")
    )
    return b"\x01" + vector(3, body + vector(2, b"".join(extensions)))


def records(content: bytes, size: int = 16384) -> bytes:
    """A handshake message in records of at most C{size} bytes."""
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(b"\x16\x03\x01" + vector(2, part) for part in parts)


def from_openssl(name: str | None, offered: list[str], *options: int) -> bytes:
    """What Python's own ssl says first."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if offered:
        context.set_alpn_protocols(offered)
    if name is None:
        context.check_hostname = False
    for version in options:
        context.maximum_version = ssl.TLSVersion(version)
    sent = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return sent.read()


class OpenSSLTests(SynchronousTestCase):
    """Real ones."""

    def test_python(self) -> None:
        """A hello of Python's is read, at its last byte and not before."""
        hello = from_openssl("Www.Example.COM", ["h2", "http/1.1"])
        for length in range(len(hello)):
            self.assertIsNone(peek(hello[:length]))
        expected = ClientHello("www.example.com", (b"h2", b"http/1.1"))
        self.assertEqual(peek(hello), expected)
        self.assertEqual(peek(hello + b"and what follows it"), expected)

    def test_no_name(self) -> None:
        """A client that dials an address names no host and offers nothing."""
        self.assertEqual(peek(from_openssl(None, [])), ClientHello(None, ()))

    def test_tls_1_2(self) -> None:
        """An older version is read as well."""
        hello = from_openssl("old.example", [], ssl.TLSVersion.TLSv1_2)
        self.assertEqual(peek(hello), ClientHello("old.example", ()))

    def test_pyopenssl(self) -> None:
        """So is one whose name has a root dot."""
        connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        connection.set_connect_state()
        connection.set_tlsext_host_name(b"dotted.example.")
        connection.set_alpn_protos([b"acme-tls/1"])
        with contextlib.suppress(SSL.WantReadError):
            connection.do_handshake()
        hello = connection.bio_read(65536)
        self.assertEqual(peek(hello), ClientHello("dotted.example", (b"acme-tls/1",)))


class MadeTests(SynchronousTestCase):
    """Those made by hand."""

    @given(st.none() | names, protocols, others, st.integers(1, 400))
    def test_any(
        self,
        name: str | None,
        offered: tuple[bytes, ...],
        more: list[tuple[int, bytes]],
        size: int,
    ) -> None:
        """Name and protocols are found among any extensions, in records of any size."""
        extensions = [extension(kind, content) for kind, content in more]
        if offered:
            extensions.insert(len(extensions) // 2, alpn(*offered))
        if name is not None:
            extensions.append(server_name(name.upper().encode()))
        hello = records(message(*extensions), size)
        self.assertEqual(peek(hello), ClientHello(name, offered))
        for cut in {1, 4, 5, 6, len(hello) // 2, len(hello) - 1}:
            self.assertIsNone(peek(hello[:cut]))

    def test_without_extensions(self) -> None:
        """A hello of the last century has no extensions at all."""
        body = b"\x03\x01" + bytes(32) + b"\0" + vector(2, b"\0\x2f") + vector(1, b"\0")
        self.assertEqual(peek(records(b"\x01" + vector(3, body))), ClientHello(None, ()))

    def test_byte_by_byte(self) -> None:
        """One byte a record is tedious, and read."""
        hello = records(message(server_name(b"slow.example")), 1)
        self.assertEqual(peek(hello), ClientHello("slow.example", ()))


class RefusedTests(SynchronousTestCase):
    """What is no ClientHello."""

    def assert_refused(self, *extensions: bytes) -> None:
        self.assertRaises(WireError, peek, records(message(*extensions)))

    def test_other_protocols(self) -> None:
        """What does not begin as one is refused with its first wrong byte."""
        for data in [
            b"G",
            b"SSH-2.0",
            b"\x15\x03\x01",
            b"\x16\x02",
            b"\x16\x03\x01\0\0",
            b"\x16\x03\x01\x40\x01",
            b"\x16\x03\x01\0\x04\x02",
            b"\x80\x2e\x01",
        ]:
            self.assertRaises(WireError, peek, data)

    def test_nothing(self) -> None:
        """No byte yet is no fault."""
        self.assertIsNone(peek(b""))

    def test_too_large(self) -> None:
        """A hello of more than 16 KiB is refused when it says so, or when they have come."""
        self.assertRaises(WireError, peek, b"\x16\x03\x01\x40\0\x01\0\x40\0")
        large = message(extension(21, bytes(MAX_SIZE - 200)), server_name(b"large.example"))
        self.assertEqual(peek(records(large)), ClientHello("large.example", ()))
        scattered = records(large, 100)
        self.assertIsNone(peek(scattered[: MAX_SIZE - 1]))
        self.assertRaises(WireError, peek, scattered[:MAX_SIZE])
        self.assertRaises(WireError, peek, scattered)
        for size in range(1, 40):  # Wherever the limit falls: into a header, or between records.
            self.assertRaises(WireError, peek, records(large, size)[:MAX_SIZE])

    def test_lengths(self) -> None:
        """A part that is longer than what it is in, or shorter, is refused."""
        whole = message(server_name(b"a.example"))
        for at in range(4, len(whole)):
            cut = whole[4:at]
            with contextlib.suppress(WireError):
                self.assertEqual(peek(records(b"\x01" + vector(3, cut))), ClientHello(None, ()))
        self.assertRaises(WireError, peek, records(b"\x01" + vector(3, whole[4:] + b"\0")))

    def test_twice(self) -> None:
        """Two names, in one extension or in two, would be two routes."""
        self.assert_refused(server_name(b"a.example"), server_name(b"b.example"))
        one = b"\0" + vector(2, b"a.example")
        self.assert_refused(extension(0, vector(2, one + one)))

    def test_names(self) -> None:
        """What cannot be a host name is refused."""
        for name in [b"", b".", b"a..b", b".a", b"a b", b"a/b", b"a\0b", "\u00fc".encode()]:
            self.assert_refused(server_name(name))
        self.assert_refused(server_name(b"a" * 64 + b".example"))
        self.assert_refused(server_name(b".".join([b"a" * 50] * 5)))
        self.assert_refused(extension(0, vector(2, b"\1" + vector(2, b"a.example"))))
        self.assert_refused(extension(0, vector(2, b"\0" + vector(2, b"a.example")) + b"\0"))
        self.assert_refused(extension(0, b""))

    def test_protocols(self) -> None:
        """A list of protocols has protocols, and each has a name."""
        self.assert_refused(alpn())
        self.assert_refused(alpn(b""))
        self.assert_refused(extension(16, vector(2, vector(1, b"h2")) + b"\0"))

    @given(
        st.binary(max_size=300)
        | st.binary(max_size=300).map(lambda data: records(b"\x01" + vector(3, data)))
        | st.binary(max_size=200).map(lambda data: records(message(extension(0, data))))
        | st.binary(max_size=200).map(lambda data: records(message(extension(16, data))))
        | st.binary(max_size=200).map(lambda data: records(message(data)))
    )
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are a hello, the beginning of one, or a WireError."""
        with contextlib.suppress(WireError):
            self.assertIsInstance(peek(data), ClientHello | None)
