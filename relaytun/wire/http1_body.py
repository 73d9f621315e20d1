"""
Where the body of an HTTP/1 message ends.

Each reader takes the bytes of a connection as they come and tells the body's from what follows.
L{Chunks} is strict (RFC 9112, section 7.1): sizes are hexadecimal digits and nothing else, lines
end with CR LF, extensions are few and are dropped.  It keeps no data, at most one line and the
trailers.
"""

from __future__ import annotations

import re
from typing import Protocol

from .errors import WireError
from .http1 import CHUNKED, UNTIL_CLOSE

#: Longest line with the size of a chunk, and most bytes of trailers.
MAX_LINE = 1024
MAX_TRAILERS = 16 * 1024
#: More bytes of extensions in one body are somebody's game (CVE-2023-39326).
MAX_EXTENSIONS = 16 * 1024

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})([ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")
#: Fields that must not stand in trailers: they would change what the head said.
_NOT_IN_TRAILERS = frozenset(
    {
        b"authorization", b"connection", b"content-encoding", b"content-length", b"content-range",
        b"content-type", b"cookie", b"expect", b"host", b"keep-alive", b"proxy-authorization",
        b"forwarded", b"proxy-connection", b"set-cookie", b"te", b"trailer", b"transfer-encoding",
        b"upgrade", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip",
    }
)  # fmt: skip


class Body(Protocol):
    """
    The reader of one body.

    @ivar over: its last byte has been read.
    @ivar trailers: fields after the last chunk, each with CR LF.
    """

    over: bool
    trailers: bytes

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """
        Take what came.

        @return: bytes of the body, and those after its end.
        @raise WireError: if this is no body.
        """


def body(length: int) -> Body:
    """@param length: as L{relaytun.wire.http1.body_length} gives it."""
    if length == CHUNKED:
        return Chunks()
    return UntilClose() if length == UNTIL_CLOSE else Counted(length)


def chunk(data: bytes) -> bytes:
    """C{data}, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: bytes = b"") -> bytes:
    """The end of a body in chunks."""
    return b"0\r\n%b\r\n" % trailers


class UntilClose:
    """A body that ends with its connection."""

    __slots__ = ("over",)

    trailers = b""

    def __init__(self) -> None:
        self.over = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""


class Counted:
    """A body of known length."""

    __slots__ = ("_left", "over")

    trailers = b""

    def __init__(self, length: int) -> None:
        self._left = length
        self.over = not length

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        size = len(data)
        if size < self._left:
            self._left -= size
            return data, b""
        left, self._left = self._left, 0
        self.over = True
        return data[:left], data[left:]


class Chunks:
    """A body in chunks."""

    __slots__ = ("_data", "_extensions", "_left", "_line", "_trailing", "over", "trailers")

    def __init__(self) -> None:
        self.over = False
        self.trailers = b""
        self._left = 0  # Bytes of the chunk that are to come, with its CR LF.
        self._line = b""  # The begin of a line.
        self._extensions = 0
        self._trailing = 0  # Bytes of trailers, once there can be any.
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        position = 0
        while position < len(data) and not self.over:
            take = self._take if self._left else self._take_line
            position = take(data, position)
        payload = b"".join(self._data)
        self._data.clear()
        return payload, data[position:]

    def _take(self, data: bytes, position: int) -> int:
        """Take bytes of a chunk and the CR LF after them, as far as they are there."""
        available = len(data) - position
        if self._left > 2:
            size = min(self._left - 2, available)
            self._data.append(data[position : position + size])
        else:
            size = 1
            if data[position] != b"\n\r"[self._left - 1]:
                raise WireError("a chunk that is longer than it says")
        self._left -= size
        return position + size

    def _take_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position)
        line = self._line + (data[position:] if end < 0 else data[position : end + 1])
        if len(line) > (MAX_TRAILERS if self._trailing else MAX_LINE):
            raise WireError("a line within a body in chunks that is too long")
        if end < 0:
            self._line = line
            return len(data)
        self._line = b""
        if not line.endswith(b"\r\n"):
            raise WireError("a line feed without carriage return within a body in chunks")
        (self._trailer if self._trailing else self._size)(line[:-2])
        return end + 1

    def _size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if not match:
            raise WireError("a malformed size of a chunk")
        self._extensions += len(match[2] or b"")
        if self._extensions > MAX_EXTENSIONS:
            raise WireError("too many extensions of chunks")
        size = int(match[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailing = 1

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.over = True
            return
        match = _FIELD.fullmatch(line)
        if not match:
            raise WireError("a malformed trailer")
        self._trailing += len(line)
        if self._trailing > MAX_TRAILERS:
            raise WireError("too many trailers")
        if match[1].lower() not in _NOT_IN_TRAILERS:
            self.trailers += line + b"\r\n"
