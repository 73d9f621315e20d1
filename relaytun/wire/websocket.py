"""
WebSockets (RFC 6455) as far as legs need them: a pipe of bytes in binary messages.

How the bytes are cut into messages and frames means nothing, with one exception: WebSockets have
no half-close, so a message without a byte says "nothing more from me" (C{docs/protocol.rst},
"Legs over WebSockets").  Payload is handed on as it comes and never gathered, so a frame may be
as long as it likes.  No extensions, no text.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from . import httphead
from .errors import WireError
from .httphead import Head

#: The subprotocol of legs.
LEG_PROTOCOL = "relaytun.leg"
#: Payload of a control frame, at most.
MAX_CONTROL = 125

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"
_KEY_SIZE = 16
_FIN = 0x80
_RESERVED = 0x70
_MASKED = 0x80
#: From this size on masks are laid by table.
_LARGE = 8 * 1024
_TABLES = [bytes(byte ^ other for other in range(256)) for byte in range(256)]
_CLOSE = struct.Struct("!H")


class Opcode(enum.IntEnum):
    """What a frame is."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(enum.IntEnum):
    """Why a WebSocket is closed (RFC 6455, 7.4.1), as far as it is said here."""

    #: Both sides have said everything.
    NORMAL = 1000
    #: What came breaks the RFC.
    PROTOCOL = 1002
    #: Text came.
    UNSUPPORTED = 1003
    #: The other side asks too much.
    POLICY = 1008
    #: The stream broke: what has come is not all of it.
    BROKEN = 1011


class FrameError(WireError):
    """
    What came is no WebSocket frame, or not one that a leg has.

    @ivar code: to be said in the close frame.
    """

    def __init__(self, why: str, code: CloseCode = CloseCode.PROTOCOL) -> None:
        super().__init__(why)
        self.code = code


class HandshakeRefused(WireError):
    """
    The opening request is not what it has to be.

    @ivar status: the HTTP status of the answer.
    """

    def __init__(self, why: str, status: str = "400 Bad Request") -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of the pipe."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """A message without a byte: no more will come."""


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with a pong of the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """Nobody has to answer."""


@dataclass(frozen=True, slots=True)
class Close:
    """
    @ivar code: C{None} if the other side gave none.
    """

    code: int | None


Event = Data | End | Ping | Pong | Close


def mask(data: bytes | memoryview, key: bytes) -> bytes:
    """C{data} with the four bytes of C{key} laid over it again and again (it undoes itself)."""
    size = len(data)
    if size < _LARGE:  # As one long number.
        pattern = (key * (size // 4 + 1))[:size]
        masked = int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")
        return masked.to_bytes(size, "little")
    # Each byte of the key has a quarter of the bytes, and a table for them: for what is large
    # twice as fast, some 600 MB/s.
    whole, large = bytes(data), bytearray(size)
    for place, byte in enumerate(key):
        large[place::4] = whole[place::4].translate(_TABLES[byte])
    return bytes(large)


def frame(opcode: Opcode, payload: bytes | memoryview = b"", masked: bool = False) -> bytes:
    """
    A whole message, or a control frame.

    @param masked: whether a client sends it.
    """
    size = len(payload)
    bit = _MASKED if masked else 0
    if size < 126:
        header = struct.pack("!BB", _FIN | opcode, bit | size)
    elif size < 1 << 16:
        header = struct.pack("!BBH", _FIN | opcode, bit | 126, size)
    else:
        header = struct.pack("!BBQ", _FIN | opcode, bit | 127, size)
    if not masked:
        return b"".join((header, payload))
    key = secrets.token_bytes(4)
    return b"".join((header, key, mask(payload, key)))


def close_frame(code: CloseCode, masked: bool = False) -> bytes:
    """The last frame."""
    return frame(Opcode.CLOSE, _CLOSE.pack(code), masked)


class FrameReader:
    """The other side's bytes, frame by frame."""

    def __init__(self, masked: bool) -> None:
        """@param masked: whether the other side is the client, which has to mask."""
        self._masked = masked
        self._buffer = b""
        self._key = b""
        self._left = 0  # Of the payload of the data frame that is being read.
        self._in_message = False
        self._final = False
        self._empty = True  # No byte of this message has come yet.
        self._closed = False
        self._idle = 0

    def take_idle(self) -> int:
        """How many frames have come that carry no bytes of the pipe, since the last time."""
        idle, self._idle = self._idle, 0
        return idle

    def feed(self, data: bytes) -> Iterator[Event]:
        """
        What C{data} completes; to be read to its end, or to its error.

        @raise FrameError: (a L{WireError}) behind the events of what was in order.
        """
        view = memoryview(self._buffer + data if self._buffer else data)
        position = 0
        while not self._closed:
            if self._left:
                part = view[position : position + self._left]
                if not part:
                    break
                position += len(part)
                yield Data(self._take(part))
                continue
            header = self._header(view[position : position + 14])
            if header is None:
                break
            opcode, length, start = header
            if opcode < Opcode.CLOSE:
                position += start
                self._left = length
                self._in_message = not self._final
                if length:
                    self._empty = False
                else:
                    self._idle += 1
                    if self._final and self._empty:
                        yield End()
                continue
            payload = view[position + start : position + start + length]
            if len(payload) < length:
                break
            position += start + length
            self._idle += 1
            yield self._control(
                opcode, mask(payload, self._key) if self._masked else bytes(payload)
            )
        self._buffer = bytes(view[position:])

    def _take(self, part: memoryview) -> bytes:
        self._left -= len(part)
        if not self._masked:
            return bytes(part)
        key = self._key
        turn = len(part) % 4
        self._key = key[turn:] + key[:turn]
        return mask(part, key)

    def _header(self, view: memoryview) -> tuple[Opcode, int, int] | None:
        """@return: opcode, length of the payload, and where it starts; C{None} if not all there."""
        if len(view) < 2:
            return None
        first, second = view[0], view[1]
        opcode = self._judge(first, second)
        length = second & 0x7F
        start = 2
        if length >= 126:
            size = 2 if length == 126 else 8
            start += size
            if len(view) < start:
                return None
            length = int.from_bytes(view[2:start], "big")
            if length < (126 if size == 2 else 1 << 16) or length >> 63:
                raise FrameError("the length of a frame is not written as it has to be")
        if self._masked:
            start += 4
            if len(view) < start:
                return None
            # A data frame's key stays until its last byte; no control frame can come before that.
            self._key = bytes(view[start - 4 : start])
        if opcode in (Opcode.BINARY, Opcode.CONTINUATION):
            self._final = bool(first & _FIN)
            if opcode is Opcode.BINARY:
                self._empty = True
        return opcode, length, start

    def _judge(self, first: int, second: int) -> Opcode:
        if first & _RESERVED:
            raise FrameError("a frame has reserved bits, and no extension was agreed")
        try:
            opcode = Opcode(first & 0x0F)
        except ValueError:
            raise FrameError("a frame is of no known kind") from None
        if bool(second & _MASKED) is not self._masked:
            raise FrameError("a client masks its frames, a server does not")
        if opcode is Opcode.TEXT:
            raise FrameError("a leg has binary messages only", CloseCode.UNSUPPORTED)
        if opcode >= Opcode.CLOSE:
            if not first & _FIN or second & 0x7F > MAX_CONTROL:
                raise FrameError("a control frame is too long or in parts")
        elif (opcode is Opcode.CONTINUATION) is not self._in_message:
            raise FrameError("the frames of a message are out of order")
        return opcode

    def _control(self, opcode: Opcode, payload: bytes) -> Event:
        if opcode is Opcode.PING:
            return Ping(payload)
        if opcode is Opcode.PONG:
            return Pong()
        self._closed = True
        return Close(_close_code(payload))


def _close_code(payload: bytes) -> int | None:
    if not payload:
        return None
    if len(payload) < _CLOSE.size:
        raise FrameError("a close frame has half a code")
    code: int = _CLOSE.unpack_from(payload)[0]
    known = 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
    if not known:
        raise FrameError("a close frame has a code that nobody may send")
    try:
        payload[_CLOSE.size :].decode("utf-8")
    except UnicodeDecodeError:
        raise FrameError("the reason of a close frame is no UTF-8") from None
    return code


def new_key() -> str:
    """A client's nonce."""
    return base64.b64encode(secrets.token_bytes(_KEY_SIZE)).decode("ascii")


def accept_of(key: str) -> str:
    """What a server makes of it."""
    digest = hashlib.sha1((key + _GUID).encode("ascii")).digest()
    return base64.b64encode(digest).decode("ascii")


def request(host: str, path: str, key: str) -> bytes:
    """
    A client's opening request for a leg.

    @param host: as in a URL, with the port.
    """
    return httphead.write(
        f"GET {path} HTTP/1.1",
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", _VERSION),
        ("Sec-WebSocket-Protocol", LEG_PROTOCOL),
        ("User-Agent", "relaytun"),
    )


def answer(head: Head) -> bytes:
    """
    A server's answer to a request for a leg.

    @raise HandshakeRefused: (a L{WireError}) if it is no opening handshake for one.
    """
    try:
        method, _ = head.request()
        key = head.get("sec-websocket-key") or ""
        version = head.get("sec-websocket-version")
        has_host = head.get("host") is not None
        length = head.get("content-length")
    except WireError as error:
        raise HandshakeRefused(str(error)) from None
    if any(name == "origin" for name, _ in head.fields):
        raise HandshakeRefused("no web page may have a leg", "403 Forbidden")
    if length not in (None, "0") or any(name == "transfer-encoding" for name, _ in head.fields):
        raise HandshakeRefused("the request has a body")
    if (
        method != "GET"
        or not has_host
        or "websocket" not in head.names("upgrade")
        or "upgrade" not in head.names("connection")
        or not _is_key(key)
    ):
        raise HandshakeRefused("that is no opening handshake of a WebSocket")
    if version != _VERSION:
        raise HandshakeRefused(
            f"WebSockets of version {_VERSION} only",
            f"426 Upgrade Required\r\nSec-WebSocket-Version: {_VERSION}",
        )
    offered = head.names("sec-websocket-protocol")
    if offered and LEG_PROTOCOL not in offered:
        raise HandshakeRefused(f"the subprotocol of a leg is {LEG_PROTOCOL}")
    chosen = (("Sec-WebSocket-Protocol", LEG_PROTOCOL),) if offered else ()
    return httphead.write(
        "HTTP/1.1 101 Switching Protocols",
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_of(key)),
        *chosen,
    )


def refusal(why: str, status: str) -> bytes:
    """A whole response that says no, and that the connection ends."""
    body = why + "\n"
    return httphead.write(
        f"HTTP/1.1 {status}",
        ("Connection", "close"),
        ("Content-Type", "text/plain"),
        ("Content-Length", str(len(body))),
    ) + body.encode("ascii")


def check_answer(head: Head, key: str) -> None:
    """
    See whether the server has opened a leg's WebSocket, as asked with C{key}.

    @raise WireError: if it has not.
    """
    status = head.status()
    if status != 101:
        raise WireError(f"it answers HTTP {status}")
    if (
        "websocket" not in head.names("upgrade")
        or "upgrade" not in head.names("connection")
        or head.get("sec-websocket-accept") != accept_of(key)
        or head.get("sec-websocket-extensions")
    ):
        raise WireError("its answer to the opening handshake is wrong")
    if (head.get("sec-websocket-protocol") or "").lower() != LEG_PROTOCOL:
        raise WireError("there are no legs at this path")


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_SIZE
    except ValueError:
        return False
