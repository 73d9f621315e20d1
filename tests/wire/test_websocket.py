"""Tests of L{relaytun.wire.websocket}."""

from __future__ import annotations

import contextlib
import struct
from itertools import cycle

from hypothesis import given, settings, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire import websocket
from relaytun.wire.errors import WireError
from relaytun.wire.httphead import Head, HeadReader
from relaytun.wire.websocket import (
    Close,
    CloseCode,
    Data,
    End,
    Event,
    FrameError,
    FrameReader,
    HandshakeRefused,
    Opcode,
    Ping,
    Pong,
)

#: RFC 6455, 1.3.
RFC_KEY, RFC_ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def read(data: bytes, size: int = 1 << 20, masked: bool = False) -> list[Event]:
    """The events of C{data} that comes in parts of C{size} bytes; neighbouring data joined."""
    reader = FrameReader(masked)
    events: list[Event] = []
    for start in range(0, len(data), size):
        for event in reader.feed(data[start : start + size]):
            if isinstance(event, Data) and events and isinstance(events[-1], Data):
                event = Data(events.pop().data + event.data)  # type: ignore[union-attr]
            events.append(event)
    return events


def raw(first: int, payload: bytes = b"", length: bytes | None = None) -> bytes:
    """A frame from a server, whatever it is."""
    return bytes((first,)) + (bytes((len(payload),)) if length is None else length) + payload


class FrameTests(SynchronousTestCase):
    @given(
        st.lists(st.binary(max_size=300), max_size=5),
        st.integers(1, 400),
        st.booleans(),
        st.sampled_from([0, 126, 65536, 70000]),
    )
    @settings(max_examples=60)
    def test_round_trip(self, parts: list[bytes], size: int, masked: bool, more: int) -> None:
        """Bytes come out in their order, however they are cut; an empty message is the end."""
        data = b"".join(websocket.frame(Opcode.BINARY, part, masked) for part in parts if part)
        data += websocket.frame(Opcode.PING, b"ho", masked) + websocket.frame(
            Opcode.PONG, b"", masked
        )
        large = bytes(range(256)) * (more // 256 + 1)
        data += websocket.frame(Opcode.BINARY, large[:more], masked)
        data += websocket.close_frame(CloseCode.NORMAL, masked) + b"ignored"
        sent = b"".join(parts)
        expected: list[Event] = [Data(sent)] if sent else []
        expected += [Ping(b"ho"), Pong(), Data(large[:more]) if more else End(), Close(1000)]
        self.assertEqual(read(data, max(size, more // 50), masked), expected)

    def test_byte_by_byte(self) -> None:
        """A header may come in parts, with each form of length."""
        for masked in (False, True):
            for size in (1, 200, 65536):
                data = websocket.frame(Opcode.BINARY, bytes(size), masked)
                self.assertEqual(read(data, 1, masked), [Data(bytes(size))])

    @given(st.binary(max_size=100), st.binary(min_size=4, max_size=4))
    def test_mask(self, data: bytes, key: bytes) -> None:
        """The mask is the exclusive or of the RFC, and its own inverse."""
        for whole in (data, data * 200):
            slow = bytes(one ^ other for one, other in zip(whole, cycle(key), strict=False))
            self.assertEqual(websocket.mask(whole, key), slow)
            self.assertEqual(websocket.mask(slow, key), whole)

    @given(st.lists(st.binary(max_size=50), max_size=10), st.booleans())
    def test_garbage(self, parts: list[bytes], masked: bool) -> None:
        """Whatever comes is events or a L{WireError}."""
        reader = FrameReader(masked)
        with contextlib.suppress(WireError):
            for part in parts:
                list(reader.feed(part))

    def test_fragments(self) -> None:
        """A message in parts is one; it is the end if no part has a byte."""
        ping = raw(0x89)
        self.assertEqual(
            read(raw(0x02, b"a") + ping + raw(0x00) + raw(0x80, b"b")),
            [Data(b"a"), Ping(b""), Data(b"b")],
        )
        self.assertEqual(read(raw(0x02) + ping + raw(0x80)), [Ping(b""), End()])
        self.assertEqual(read(raw(0x02, b"a") + raw(0x80)), [Data(b"a")])

    def test_idle(self) -> None:
        """Frames that carry nothing are counted."""
        reader = FrameReader(masked=False)
        list(reader.feed(raw(0x02) + raw(0x00) + raw(0x80, b"x") + raw(0x89) + raw(0x8A)))
        self.assertEqual((reader.take_idle(), reader.take_idle()), (4, 0))

    def test_refused(self) -> None:
        """What breaks the RFC, or is no leg's, is refused with the code to say."""
        for data in (
            raw(0xC2),  # A reserved bit.
            raw(0x83),  # No such opcode.
            raw(0x82, b"", b"\x80\0\0\0\0"),  # A server that masks.
            raw(0x80),  # Nothing to continue.
            raw(0x02, b"a") + raw(0x82),  # A message within another one.
            raw(0x09),  # A ping in parts.
            raw(0x89, b"", b"\x7e\0\x7e"),  # A long one.
            raw(0x82, b"", b"\x7e\0\x7d"),  # Lengths that are too long for what they say.
            raw(0x82, b"", b"\x7f" + struct.pack("!Q", 65535)),
            raw(0x82, b"", b"\x7f" + struct.pack("!Q", 1 << 63)),
            raw(0x88, b"x"),
            raw(0x88, struct.pack("!H", 1005)),
            raw(0x88, struct.pack("!H", 1000) + b"\xff"),
        ):
            with self.assertRaises(FrameError) as caught:
                read(data)
            self.assertEqual(caught.exception.code, CloseCode.PROTOCOL)
        with self.assertRaises(FrameError) as caught:
            read(raw(0x81, b"hi"))
        self.assertEqual(caught.exception.code, CloseCode.UNSUPPORTED)
        with self.assertRaises(FrameError):
            read(raw(0x82, b"hi"), masked=True)

    def test_before_the_error(self) -> None:
        """What came in order before an error is delivered."""
        reader = FrameReader(masked=False)
        events = reader.feed(raw(0x82, b"a") + raw(0xFF))
        self.assertEqual(next(events), Data(b"a"))
        self.assertRaises(FrameError, next, events)

    def test_close_codes(self) -> None:
        """A close frame has a code, with a reason or without, or none."""
        for payload, code in ((b"", None), (struct.pack("!H", 4000) + "né".encode(), 4000)):
            self.assertEqual(read(raw(0x88, payload)), [Close(code)])


def head_of(data: bytes) -> Head:
    head = HeadReader().feed(data)
    assert head is not None
    return head


class HandshakeTests(SynchronousTestCase):
    def request(self, **changes: str | None) -> Head:
        """A client's request with other fields, or without some."""
        head = head_of(websocket.request("h:9000", "/x/leg", RFC_KEY))
        fields = {name: value for name, value in head.fields}
        for name, value in changes.items():
            fields.pop(name.replace("_", "-"), None)
            if value is not None:
                fields[name.replace("_", "-")] = value
        return Head(head.start, tuple(fields.items()))

    def test_both_agree(self) -> None:
        """A client's request is answered so that the client agrees."""
        key = websocket.new_key()
        head = head_of(websocket.request("h:9000", "/x/leg", key))
        self.assertEqual(head.request(), ("GET", "/x/leg"))
        websocket.check_answer(head_of(websocket.answer(head)), key)

    def test_accept(self) -> None:
        """The RFC's own example."""
        self.assertEqual(websocket.accept_of(RFC_KEY), RFC_ACCEPT)

    def test_no_subprotocol(self) -> None:
        """A client that names no subprotocol gets none named."""
        answer = websocket.answer(self.request(sec_websocket_protocol=None))
        self.assertNotIn(b"Protocol:", answer)

    def test_refused(self) -> None:
        """What is no opening handshake of a leg is refused, with the status that says why."""
        for status, changes in (
            ("403", {"origin": "https://evil.example"}),
            ("426", {"sec_websocket_version": "8"}),
            ("400", {"upgrade": "h2c"}),
            ("400", {"connection": "close"}),
            ("400", {"host": None}),
            ("400", {"sec_websocket_key": "short"}),
            ("400", {"sec_websocket_key": "\xe9"}),
            ("400", {"sec_websocket_key": None}),
            ("400", {"content_length": "5"}),
            ("400", {"transfer_encoding": "chunked"}),
            ("400", {"sec_websocket_protocol": "mqtt"}),
        ):
            with self.assertRaises(HandshakeRefused) as caught:
                websocket.answer(self.request(**changes))
            self.assertEqual(caught.exception.status[:3], status)
        request = self.request()
        for head in (
            Head("POST /x HTTP/1.1", request.fields),
            Head("GET /x HTTP/1.0", request.fields),
            Head(request.start, (*request.fields, ("host", "other"))),
        ):
            with self.assertRaises(HandshakeRefused):
                websocket.answer(head)

    def test_refusal(self) -> None:
        """A refusal is a whole response."""
        head = head_of(websocket.refusal("no", "403 Forbidden"))
        self.assertEqual((head.status(), head.get("content-length")), (403, "3"))

    def test_wrong_answers(self) -> None:
        """A client takes nothing but what it asked for."""
        good = head_of(websocket.answer(self.request()))
        websocket.check_answer(good, RFC_KEY)
        others = [Head("HTTP/1.1 404 Not Found", good.fields), Head("SSH-2.0", good.fields)]
        for name, value in (
            ("upgrade", "x"),
            ("connection", "x"),
            ("sec-websocket-accept", "x"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("sec-websocket-protocol", "x"),
        ):
            fields = dict(good.fields) | {name: value}
            others.append(Head(good.start, tuple(fields.items())))
        for head in others:
            with self.assertRaises(WireError):
                websocket.check_answer(head, RFC_KEY)
