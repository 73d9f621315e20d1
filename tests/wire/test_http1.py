"""Tests of L{relaytun.wire.http1}."""

from __future__ import annotations

import contextlib

import h11
from hypothesis import example, given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire import http1
from relaytun.wire.errors import WireError

tokens = st.text("!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=12).map(str.encode)
texts = st.binary(max_size=20).map(
    lambda data: bytes(each for each in data if each == 9 or (each >= 32 and each != 127))
)
fields = st.lists(st.tuples(tokens, texts), max_size=5)
#: Bytes that heads are made of, and those that tell parsers apart.
noise = st.lists(
    st.sampled_from(
        [
            b"GET / HTTP/1.1", b"HTTP/1.1 200 OK", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t",
            b"Host: a", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X", b":", b"\x00",
            b"\x0b", b"\x80", b",",
        ]
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


def lines(first: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
    return b"\r\n".join([first, *(b"%b: %b" % field for field in fields), b"", b""])


class CheckTests(SynchronousTestCase):
    @given(tokens, fields)
    def test_good(self, method: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        """What a parser would write is let through, and no begin of it is hopeless."""
        head = lines(method + b" /x HTTP/1.1", fields)
        self.assertEqual(http1.check_request(head), {})
        for end in range(len(head)):
            http1.check_partial(head[:end], max(0, end - 3))
        self.assertEqual(http1.check_response(lines(b"HTTP/1.1 200 OK", fields)), {})

    @given(noise)
    @example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    def test_strict(self, data: bytes) -> None:
        """Nothing gets through with a line end or a control character of another kind."""
        for check in (http1.check_request, http1.check_response):
            try:
                check(data)
            except WireError as error:
                self.assertTrue(str(error).isascii())
                continue
            self.assertTrue(data.endswith(b"\r\n\r\n"))
            rest = data.replace(b"\r\n", b"")
            self.assertFalse(set(rest) & {*range(9), *range(10, 32), 127})
            self.assertEqual(data.count(b"\r\n\r\n"), 1)

    @given(noise)
    def test_partial(self, data: bytes) -> None:
        """A begin that is hopeless is that of no head that would be taken."""
        try:
            http1.check_request(data)
        except WireError:
            return
        for end in range(len(data)):
            http1.check_partial(data[:end])

    @given(tokens, st.lists(st.tuples(tokens, texts), max_size=4))
    def test_h11(self, method: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        """What gets through the parser reads in the same way."""
        head = lines(method + b" /x HTTP/1.1", [*fields, (b"Host", b"a")])
        found = http1.check_request(head)
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(head)
        request = connection.next_event()
        assert isinstance(request, h11.Request)
        self.assertEqual(len(request.headers), len(fields) + 1)
        self.assertEqual(dict(request.headers)[b"host"], found[b"host"])

    def test_complaints(self) -> None:
        """What is wrong is said in words, and not quoted."""
        for data, complaint in (
            (b"GET /\x00", "NUL"),
            (b"GET / HTTP/1.1\nX", "line feed"),
            (b"GET / HTTP/1.1\rX", "carriage return"),
            (b"\x1b[0m", "control"),
            (b"\r\nGET / HTTP/1.1", "empty line"),
        ):
            error = self.assertRaises(WireError, http1.check_partial, data)
            self.assertIn(complaint, str(error))
        for data, complaint in (
            (b"GET / HTTP/1.1\r\n x\r\n\r\n", "folded"),
            (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", "colon"),
            (b"GET / HTTP/2.0\r\n\r\n", "version"),
            (b"GET /\r\n\r\n", "cannot be read"),
        ):
            error = self.assertRaises(WireError, http1.check_request, data)
            self.assertIn(complaint, str(error))

    def test_linear(self) -> None:
        """A long head takes no longer than its length: it is read in one pass."""
        for part in (b" ", b"\t", b"a", b":", b"a:\r\n", b"\r", b"Host:\r\n", b"x: \t"):
            head = b"GET / HTTP/1.1\r\nHost: " + part * (60000 // len(part))
            for end in (b"", b"\r\n\r\n", b"\x7f\r\n\r\n"):
                for check in (http1.check_request, http1.check_partial):
                    with contextlib.suppress(WireError):
                        check(head + end)

    def test_many(self) -> None:
        """There are at most 254 fields."""
        for count, good in ((254, True), (255, False)):
            head = lines(b"GET / HTTP/1.1", [(b"X", b"")] * count)
            if good:
                self.assertEqual(http1.check_request(head), {})
            else:
                self.assertRaises(WireError, http1.check_request, head)

    def test_twice(self) -> None:
        """Fields that decide something come once."""
        for name in (b"Host", b"content-length", b"TRANSFER-ENCODING", b"Authorization"):
            head = lines(b"GET / HTTP/1.1", [(name, b"1"), (b"X", b""), (name.title(), b"1")])
            error = self.assertRaises(WireError, http1.check_request, head)
            self.assertIn("more than one", str(error))


class LengthTests(SynchronousTestCase):
    def length(self, modern: bool = True, **essentials: bytes) -> int:
        return http1.body_length(
            {name.replace("_", "-").encode(): value for name, value in essentials.items()},
            modern,
            7,
        )

    def test_lengths(self) -> None:
        """Nothing, a number, or chunks."""
        self.assertEqual(self.length(), 7)
        self.assertEqual(self.length(content_length=b"0"), 0)
        self.assertEqual(self.length(content_length=b"0012", modern=False), 12)
        self.assertEqual(self.length(transfer_encoding=b"Chunked"), http1.CHUNKED)

    def test_ambiguous(self) -> None:
        """Everything else is refused."""
        for essentials in (
            {"content_length": b"1", "transfer_encoding": b"chunked"},
            {"transfer_encoding": b"chunked", "modern": False},
            {"transfer_encoding": b"gzip, chunked"},
            {"transfer_encoding": b""},
            {"content_length": b""},
            {"content_length": b"-1"},
            {"content_length": b"1, 1"},
            {"content_length": b"1" * 19},
            {"content_length": b"1\n"},
        ):
            self.assertRaises(WireError, self.length, **essentials)


class LocateTests(SynchronousTestCase):
    def test_clear(self) -> None:
        """Target and Host say together whom a request is for."""
        for target, host, modern, expected in (
            (b"/x?y", b"A.example:80", True, (b"A.example:80", "a.example", b"/x?y")),
            (b"*", b"a", True, (b"a", "a", b"*")),
            (b"http://a.example?x", b"A.Example", True, (b"a.example", "a.example", b"/?x")),
            (b"HTTPS://a/b", None, False, (b"a", "a", b"/b")),
            (b"/", None, False, (b"", "", b"/")),
            (b"/", b"", False, (b"", "", b"/")),
            (b"/", b"a.", True, (b"a.", "a", b"/")),
            (b"/", b"[::1]:8", True, (b"[::1]:8", "[::1]", b"/")),
            (b"/", b"a:", True, (b"a:", "a", b"/")),
        ):
            self.assertEqual(http1.locate(target, host, modern), expected)

    def test_unclear(self) -> None:
        """If they do not, it is for nobody."""
        for target, host, modern in (
            (b"/", None, True),
            (b"/", b"", True),
            (b"http://a/", None, True),
            (b"http:///", b"", True),
            (b"http://a/", b"b", True),
            (b"http://a/", b"a:80", True),
            (b"http://u@a/", None, False),
            (b"a:443", b"a:443", True),
            (b"ftp://a/", b"a", True),
            (b"/", b"a b", True),
            (b"/", b"a/b", True),
            (b"/", b"[::1", True),
            (b"/", b"a:123456", True),
            (b"/", b"a\n", True),
        ):
            self.assertRaises(WireError, http1.locate, target, host, modern)

    @given(st.binary(max_size=30), st.none() | st.binary(max_size=30), st.booleans())
    def test_anything(self, target: bytes, host: bytes | None, modern: bool) -> None:
        """Whatever comes, it is located or refused; names are of their few characters."""
        try:
            authority, name, path = http1.locate(target, host, modern)
        except WireError:
            return
        self.assertNotIn("@", name)
        self.assertEqual(name, name.lower())
        self.assertTrue(path == b"*" or path.startswith(b"/"))
        self.assertTrue(authority.lower().startswith(name.encode()))
