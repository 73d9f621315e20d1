"""Tests of L{relaytun.wire.httphead}."""

from __future__ import annotations

import contextlib
import string

from hypothesis import example, given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire import httphead
from relaytun.wire.errors import WireError
from relaytun.wire.httphead import MAX_HEAD, Head, HeadReader, HeadTooLong

names = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=20)
values = st.text(string.ascii_letters + string.digits + " ,;=/\t\xe9", max_size=40).map(
    lambda text: text.strip(" \t")
)
fields = st.lists(st.tuples(names, values), max_size=8)


def read(data: bytes) -> Head:
    """A whole head."""
    head = HeadReader().feed(data)
    assert head is not None
    return head


class HeadReaderTests(SynchronousTestCase):
    @given(fields, st.binary(max_size=30), st.integers(1, 60))
    def test_round_trip(self, given: list[tuple[str, str]], rest: bytes, size: int) -> None:
        """What is written is read, however it is cut, and what follows is left alone."""
        data = httphead.write("GET / HTTP/1.1", *given)
        self.assertEqual(read(data), Head("GET / HTTP/1.1", tuple(given)))
        reader = HeadReader()
        whole = data + rest
        for start in range(0, len(whole), size):
            head = reader.feed(whole[start : start + size])
            if head is not None:
                self.assertEqual(head.fields, tuple(given))
                self.assertEqual(reader.rest, whole[len(data) : start + size])
                break
            self.assertLess(start + size, len(data))
        else:
            self.fail("never whole")

    @given(st.lists(st.binary(max_size=200), max_size=20))
    @example([b"GET / HTTP/1.1\r\n", b"a: b\r\n\r", b"\nmore"])
    def test_garbage(self, parts: list[bytes]) -> None:
        """Whatever comes, it is a head or a L{WireError}."""
        reader = HeadReader()
        with contextlib.suppress(WireError):
            for part in parts:
                if reader.feed(part) is not None:
                    break

    def test_strict(self) -> None:
        """Lines that two programs could read in two ways are refused."""
        for line in (
            b"no colon",
            b" folded: x",
            b"name : x",
            b": x",
            b"a: b\nc: d",
            b"a: b\rc: d",
            b"a: \x00",
            b"\xe9: x",
        ):
            with self.assertRaises(WireError):
                read(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n")
        for first in (b"", b"GET /\n", b"GET \x00 HTTP/1.1"):
            with self.assertRaises(WireError):
                read(first + b"\r\n\r\n")

    def test_limit(self) -> None:
        """A head that never ends is refused, and so is one that ends too late."""
        line = b"GET / HTTP/1.1\r\na: "
        self.assertIsNotNone(read(line + b"x" * (MAX_HEAD - len(line)) + b"\r\n\r\n"))
        for data in (b"x" * (MAX_HEAD + 1), line + b"x" * MAX_HEAD + b"\r\n\r\n"):
            with self.assertRaises(HeadTooLong):
                HeadReader().feed(data)


class HeadTests(SynchronousTestCase):
    def test_get(self) -> None:
        """A field that is there once has a value; twice is an error."""
        head = Head("x", (("a", "1"), ("b", "2"), ("b", "3")))
        self.assertEqual((head.get("a"), head.get("c")), ("1", None))
        with self.assertRaises(WireError):
            head.get("b")

    def test_names(self) -> None:
        """A list is read over commas and fields, without regard to case."""
        head = Head("x", (("connection", "Keep-Alive, Upgrade"), ("connection", " ,x")))
        self.assertEqual(head.names("connection"), ["keep-alive", "upgrade", "x"])

    def test_first_lines(self) -> None:
        """Requests are HTTP/1.1, responses are HTTP/1, and each knows its own."""
        self.assertEqual(Head("GET /x HTTP/1.1", ()).request(), ("GET", "/x"))
        self.assertEqual(Head("HTTP/1.0 407 Say Who", ()).status(), 407)
        self.assertEqual(Head("HTTP/1.1 200", ()).status(), 200)
        for line in ("GET / HTTP/1.0", "GET  / HTTP/1.1", "HTTP/1.1 200 OK"):
            with self.assertRaises(WireError):
                Head(line, ()).request()
        for line in ("HTTP/2 200 OK", "HTTP/1.1 20", "GET /x HTTP/1.1"):
            with self.assertRaises(WireError):
                Head(line, ()).status()
