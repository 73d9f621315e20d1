"""Tests of L{relaytun.wire.http1_body}."""

from __future__ import annotations

import h11
from hypothesis import example, given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire import http1_body
from relaytun.wire.errors import WireError
from relaytun.wire.http1 import CHUNKED, UNTIL_CLOSE
from relaytun.wire.http1_body import Body, body, chunk, last_chunk

payloads = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
cuts = st.lists(st.integers(0, 300), max_size=6)
noise = st.lists(
    st.sampled_from(
        [b"0", b"1", b"5", b"a", b"\r\n", b"\n", b"\r", b";", b" ", b"x", b"X: y", b"+"]
    ),
    max_size=16,
).map(b"".join)


def feed(reader: Body, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """What a reader makes of bytes that come in pieces."""
    payload = rest = b""
    start = 0
    for end in [*sorted(cuts), len(data)]:
        piece = data[start:end]
        start = max(start, end)
        if reader.over:
            rest += piece
        elif piece:
            part, rest = reader.feed(piece)
            payload += part
    return payload, rest


class BodyTests(SynchronousTestCase):
    @given(
        payloads,
        cuts,
        st.sampled_from([b"", b"X: y\r\n", b"A: \r\nB:c\r\n"]),
        st.binary(max_size=9),
    )
    @example([], [], b"", b"")
    def test_chunks(
        self, parts: list[bytes], cuts: list[int], trailers: bytes, follows: bytes
    ) -> None:
        """What is written in chunks is read the same, however it is cut, and nothing after it."""
        data = b"".join(map(chunk, parts)) + last_chunk(trailers)
        reader = body(CHUNKED)
        self.assertEqual(feed(reader, data + follows, cuts), (b"".join(parts), follows))
        self.assertTrue(reader.over)
        self.assertEqual(reader.trailers, trailers)

    @given(st.binary(max_size=40), cuts, st.binary(max_size=9))
    def test_counted(self, data: bytes, cuts: list[int], follows: bytes) -> None:
        """A counted body has so many bytes."""
        reader = body(len(data))
        self.assertEqual(feed(reader, data + follows, cuts), (data, follows))
        self.assertTrue(reader.over)
        self.assertEqual(reader.trailers, b"")
        self.assertFalse(body(len(data) + 1).over)

    @given(st.binary(max_size=40), cuts)
    def test_until_close(self, data: bytes, cuts: list[int]) -> None:
        """One that ends with its connection has all bytes."""
        reader = body(UNTIL_CLOSE)
        self.assertEqual(feed(reader, data, cuts), (data, b""))
        self.assertFalse(reader.over)

    @given(noise, cuts)
    def test_strict(self, data: bytes, cuts: list[int]) -> None:
        """What gets through h11 reads in the same way; how it is cut makes no difference."""
        results = []
        for pieces in ([], cuts):
            reader = body(CHUNKED)
            try:
                results.append((*feed(reader, data, pieces), reader.over))
            except WireError:
                results.append((b"", b"", False))
                break
        if len(results) < 2:
            self.assertRaises(WireError, feed, body(CHUNKED), data, list(range(len(data))))
            return
        self.assertEqual(results[0], results[1])
        payload, rest, over = results[0]
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + data[: len(data) - len(rest)]
        )
        read = b""
        event = connection.next_event()
        while event not in (h11.NEED_DATA, h11.PAUSED) and not isinstance(event, h11.EndOfMessage):
            if isinstance(event, h11.Data):
                read += bytes(event.data)
            event = connection.next_event()
        self.assertEqual(isinstance(event, h11.EndOfMessage), over)
        self.assertEqual(read, payload)

    def test_malformed(self) -> None:
        """Sizes, ends and trailers are as they should be, and not too long."""
        for data in (
            b"x\r\n",
            b"5 \r\n",
            b"5\n",
            b"1000000000000000\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\rb",
            b"1;" + b"x" * http1_body.MAX_LINE,
            (b"1;" + b"x" * 1000 + b"\r\na\r\n") * 20,
            b"0\r\nX\r\n",
            b"0\r\n X: y\r\n",
            b"0\r\nX: " + b"y" * http1_body.MAX_TRAILERS,
            b"0\r\n" + b"X: y\r\n" * http1_body.MAX_TRAILERS,
        ):
            self.assertRaises(WireError, body(CHUNKED).feed, data)

    def test_trailers(self) -> None:
        """Trailers that would belong into the head are left out."""
        reader = body(CHUNKED)
        reader.feed(b"0\r\nContent-Length: 5\r\nX: y\r\nhost: a\r\nX-Forwarded-For: b\r\n\r\n")
        self.assertEqual(reader.trailers, b"X: y\r\n")
