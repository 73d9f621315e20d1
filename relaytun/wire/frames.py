"""
The frames of a link: what the two clients say to each other inside a channel's TLS.

Each is a header of 24 bytes and a payload::

    0 type u8    1 flags u8    2 zero u16    4 length of the payload u32
    8 stream u64              16 value u64

    type      stream   value       payload
    HELLO     slot     generation  link id (16), service id; the visitor's first frame
    WELCOME   slot     generation  none; the provider's answer
    RESUME    0        0           none; "what I have received is told: go on from there"
    OPEN      its id   0           none
    DATA      its id   offset      bytes of the stream, from that offset on; flag 1: ACK at once
    ACK       its id   received    limit u64
    FIN       its id   offset      none; the stream ends there
    RST       its id   cause       none; a L{Reset}; stream 0 is the link itself
    PING      0        anything    anything
    PONG      0        the same    the same
    DATAGRAM  flow     0           a datagram

Numbers are big-endian.  A L{Reader} turns bytes, cut anywhere, into frames; the payload of a DATA
frame is handed on in as many pieces as it came in, so that nothing is held back or copied.
What each frame means is the business of C{relaytun.link}.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Generator, Iterator
from typing import NamedTuple

from .errors import WireError

HEADER = struct.Struct(">BBHIQQ")
HEADER_SIZE = HEADER.size
LINK_ID_SIZE = 16
#: The most bytes of a DATA frame.
MAX_DATA = 1024 * 1024
#: The most bytes of any other frame: a datagram.
MAX_OTHER = 65535
#: The most bytes of a PING, and of one that shows that packets of full size pass: more than any
#: Ethernet has.
MAX_PING = 16 * 1024
PROBE = 9216
#: The HELLO of a link that the provider need not know yet.
FRESH = 1
#: The OPEN of a stream whose bytes are compressed: each direction is one zstd frame.
ZSTD = 1
#: DATA that the sender wants to be told of without delay.
ACK_NOW = 1

_LIMIT = struct.Struct(">Q")


class Kind(enum.IntEnum):
    """The types."""

    HELLO = 1
    WELCOME = 2
    RESUME = 3
    OPEN = 4
    DATA = 5
    ACK = 6
    FIN = 7
    RST = 8
    PING = 9
    PONG = 10
    DATAGRAM = 11


class Reset(enum.IntEnum):
    """
    Why a stream, or a link, is reset.

    @cvar OVER: no reset: the stream ended in order, or was reset, and is forgotten here.
    @cvar PROGRAM: the program at its end broke the connection.
    @cvar SERVICE: the service cannot be reached.
    @cvar PROTOCOL: the other side broke the rules.
    @cvar TIMEOUT: there was no channel for too long.
    @cvar SHUTDOWN: the process ends in order.
    @cvar UNKNOWN: the link is not known: the process that knew it has died.
    @cvar LIMIT: there are too many.
    @cvar STALE: a newer channel has its place.
    @cvar FORBIDDEN: the link is for another service.
    @cvar COMPRESSION: the stream was opened with L{ZSTD}, and the provider does not do that.
    @cvar SLOW: the direct channel carries less than one through the relay.
    """

    OVER = 0
    PROGRAM = 1
    SERVICE = 2
    PROTOCOL = 3
    TIMEOUT = 4
    SHUTDOWN = 5
    UNKNOWN = 6
    LIMIT = 7
    STALE = 8
    FORBIDDEN = 9
    COMPRESSION = 10
    SLOW = 11

    @classmethod
    def of(cls, value: int) -> Reset:
        """What a frame's value means; what nobody knows breaks the rules."""
        try:
            return cls(value)
        except ValueError:
            return cls.PROTOCOL


class Frame(NamedTuple):
    """
    One frame, or a piece of a DATA frame.

    @ivar value: of a piece: the offset of its first byte.
    @ivar payload: valid until the reader is fed again.
    """

    kind: int
    flags: int
    stream: int
    value: int
    payload: memoryview | bytes = b""

    @property
    def limit(self) -> int:
        """Of an ACK."""
        limit: int = _LIMIT.unpack(self.payload)[0]
        return limit


#: What each type's payload may be: the least and the most bytes.
_SIZES: dict[int, tuple[int, int]] = {
    Kind.HELLO: (LINK_ID_SIZE + 1, LINK_ID_SIZE + 64),
    Kind.WELCOME: (0, 0),
    Kind.RESUME: (0, 0),
    Kind.OPEN: (0, 0),
    Kind.DATA: (1, MAX_DATA),
    Kind.ACK: (_LIMIT.size, _LIMIT.size),
    Kind.FIN: (0, 0),
    Kind.RST: (0, 0),
    Kind.PING: (0, MAX_PING),
    Kind.PONG: (0, MAX_PING),
    Kind.DATAGRAM: (0, MAX_OTHER),
}


def header(kind: Kind, stream: int = 0, value: int = 0, flags: int = 0, length: int = 0) -> bytes:
    """A frame's header, which is all of it if there is no payload."""
    return HEADER.pack(kind, flags, 0, length, stream, value)


def hello(slot: int, generation: int, link: bytes, service: str, fresh: bool) -> bytes:
    """The visitor's first frame on a channel."""
    payload = link + service.encode("ascii")
    flags = FRESH if fresh else 0
    return header(Kind.HELLO, slot, generation, flags, len(payload)) + payload


def probe() -> bytes:
    """A PING that fills packets; its answer does, too."""
    return header(Kind.PING, length=PROBE) + bytes(PROBE)


def pong(ping: Frame) -> bytes:
    """The answer to C{ping}."""
    answer = header(Kind.PONG, value=ping.value, length=len(ping.payload))
    return answer + ping.payload if ping.payload else answer


def ack(stream: int, received: int, limit: int) -> bytes:
    """
    @param received: bytes of the stream that have come; its end counts as one more.
    @param limit: the offset up to which bytes may be sent.
    """
    return HEADER.pack(Kind.ACK, 0, 0, _LIMIT.size, stream, received) + _LIMIT.pack(limit)


def datagram(flow: int, payload: bytes | memoryview) -> bytes:
    """A datagram, where UDP does not pass."""
    return HEADER.pack(Kind.DATAGRAM, 0, 0, len(payload), flow, 0) + payload


def data_header_into(
    buffer: memoryview | bytearray, stream: int, offset: int, length: int, flags: int = 0
) -> None:
    """Write the header of a DATA frame before its C{length} bytes, which stand there already."""
    HEADER.pack_into(buffer, 0, Kind.DATA, flags, 0, length, stream, offset)


class Reader:
    """Bytes to frames."""

    __slots__ = ("_flags", "_left", "_offset", "_partial", "_stream")

    def __init__(self) -> None:
        self._partial = b""
        self._left = 0  # Of the DATA frame that the last bytes ended in.
        self._stream = 0
        self._offset = 0
        self._flags = 0

    def feed(self, data: memoryview) -> Iterator[Frame]:
        """
        Take the next bytes.

        @return: the frames, to be used before the next call.
        @raise WireError: (while iterating) if that is no frame; nothing after it can be read.
        """
        if self._left:
            data = yield from self._more_data(data)
        if self._partial:
            data = yield from self._complete(data)
        position, end = 0, len(data)
        while end - position >= HEADER_SIZE:
            kind, flags, zero, length, stream, value = HEADER.unpack_from(data, position)
            start = position + HEADER_SIZE
            _check(kind, zero, length)
            if kind == Kind.DATA:
                piece = data[start : start + length]
                position = start + len(piece)
                if len(piece) < length:
                    self._left = length - len(piece)
                    self._stream = stream
                    self._offset = value + len(piece)
                    self._flags = flags
                if piece:
                    yield Frame(kind, flags, stream, value, piece)
            elif end - start < length:
                break
            else:
                position = start + length
                yield Frame(kind, flags, stream, value, data[start:position])
        if position < end:
            self._partial = bytes(data[position:])

    def _more_data(self, data: memoryview) -> Generator[Frame, None, memoryview]:
        piece = data[: self._left]
        offset = self._offset
        self._left -= len(piece)
        self._offset += len(piece)
        if piece:
            yield Frame(Kind.DATA, self._flags, self._stream, offset, piece)
        return data[len(piece) :]

    def _complete(self, data: memoryview) -> Generator[Frame, None, memoryview]:
        """Of a frame whose beginning has come."""
        partial = self._partial
        if len(partial) < HEADER_SIZE:
            missing = HEADER_SIZE - len(partial)
            partial += data[:missing]
            data = data[missing:]
            self._partial = partial
            if len(partial) < HEADER_SIZE:
                return data
        kind, flags, zero, length, stream, value = HEADER.unpack_from(partial)
        _check(kind, zero, length)
        if kind == Kind.DATA:
            self._partial = b""
            self._left, self._stream, self._offset, self._flags = length, stream, value, flags
            return (yield from self._more_data(data))
        missing = HEADER_SIZE + length - len(partial)
        partial += data[:missing]
        data = data[missing:]
        if len(partial) < HEADER_SIZE + length:
            self._partial = partial
        else:
            self._partial = b""
            yield Frame(kind, flags, stream, value, memoryview(partial)[HEADER_SIZE:])
        return data


def _check(kind: int, zero: int, length: int) -> None:
    sizes = _SIZES.get(kind)
    if sizes is None or zero:
        raise WireError("no frame of a link")
    if not sizes[0] <= length <= sizes[1]:
        raise WireError(f"a {Kind(kind).name} frame with a payload of {length} bytes")
