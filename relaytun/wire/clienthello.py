"""
The first message of a TLS connection: which host it asks for, read without taking part.

A TLS record is a byte of type, two of version and two of length; the ClientHello is a handshake
message that may be spread over several of them (RFC 8446, sections 4.1.2 and 5.1)::

    handshake type 1, length u24 | version u16 | random 32 | session id <u8> |
    cipher suites <u16> | compression methods <u8> | extensions <u16>

Only the server name (RFC 6066, section 3) and the application protocols (RFC 7301) are looked at;
what else is there, GREASE (RFC 8701) too, is stepped over.  Nothing is judged that a TLS library
judges afterwards: whether the versions and ciphers are any good, for one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import WireError

#: The most bytes on the wire that a ClientHello may take, with the headers of its records.
MAX_SIZE = 16 * 1024
#: The first byte of a TLS connection.
HANDSHAKE = 0x16

_RECORD_HEADER = 5
_MESSAGE_HEADER = 4
_MAX_RECORD = 16 * 1024
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_ALPN = 16
_HOST_NAME = 0
#: A host name of letters, digits, hyphens (and underscores, which some use), no root dot.
_NAME = re.compile(rb"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_MAX_NAME = 253


@dataclass(frozen=True, slots=True)
class ClientHello:
    """
    What a client asks for.

    @ivar server_name: the host, in lower case and without a root dot; C{None} if it names none.
    @ivar alpn: the application protocols that it offers, the best one first.
    """

    server_name: str | None
    alpn: tuple[bytes, ...]


class _Reader:
    """Takes vectors off the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, length: int) -> bytes:
        """The next C{length} bytes."""
        end = self._at + length
        if end > len(self._data):
            raise WireError("a part of the ClientHello is longer than the whole")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        """The next C{size} bytes as a number."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """The next bytes that have their number in C{size} bytes before them."""
        return self.take(self.number(size))


def peek(data: bytes) -> ClientHello | None:
    """
    @param data: the first bytes of a connection, at least those of the ClientHello.
    @return: C{None} if more are needed; what follows the ClientHello is left alone.
    @raise WireError: if they are no ClientHello, or it is larger than L{MAX_SIZE}.
    """
    data = data[:MAX_SIZE]
    message = b""
    at = 0
    while at < len(data):
        header = data[at : at + _RECORD_HEADER]
        _check_record(header)
        at += _RECORD_HEADER
        end = at + int.from_bytes(header[3:], "big")
        message += data[at:end]
        if message and message[0] != _CLIENT_HELLO:
            raise WireError("the first TLS message is no ClientHello")
        if len(message) >= _MESSAGE_HEADER:
            whole = _MESSAGE_HEADER + int.from_bytes(message[1:_MESSAGE_HEADER], "big")
            if whole > MAX_SIZE:
                break
            if len(message) >= whole:
                return _client_hello(message[_MESSAGE_HEADER:whole])
        at = end
    else:
        if len(data) < MAX_SIZE:
            return None
    raise WireError("the ClientHello is too large")


def _check_record(header: bytes) -> None:
    """@param header: as much of it as is there."""
    if header and header[0] != HANDSHAKE:
        raise WireError("not a TLS handshake")
    if len(header) > 1 and header[1] != 3:
        raise WireError("not a TLS record")
    if len(header) == _RECORD_HEADER and not 0 < int.from_bytes(header[3:], "big") <= _MAX_RECORD:
        raise WireError("a TLS record of an impossible size")


def _client_hello(body: bytes) -> ClientHello:
    reader = _Reader(body)
    reader.take(2 + 32)  # The version, which is always that of TLS 1.2, and the random.
    reader.vector(1)
    reader.vector(2)
    reader.vector(1)
    server_name: str | None = None
    alpn: tuple[bytes, ...] = ()
    seen = set()
    # A client of before 2003 ends here.
    extensions = _Reader(reader.vector(2) if reader else b"")
    if reader:
        raise WireError("there are bytes after the ClientHello's extensions")
    while extensions:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind in seen:
            raise WireError("an extension of the ClientHello comes twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            server_name = _server_name(content)
        elif kind == _ALPN:
            alpn = _alpn(content)
    return ClientHello(server_name, alpn)


def _server_name(content: bytes) -> str:
    outer = _Reader(content)
    names = _Reader(outer.vector(2))
    # There is one kind of name, and one name of each kind.
    kind, name = names.number(1), names.vector(2)
    if kind != _HOST_NAME or names or outer:
        raise WireError("a list of server names that is not one host name")
    name = name.lower().removesuffix(b".")
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise WireError("the server name is no host name")
    return name.decode("ascii")


def _alpn(content: bytes) -> tuple[bytes, ...]:
    outer = _Reader(content)
    offered = _Reader(outer.vector(2))
    protocols = []
    while offered:
        protocols.append(offered.vector(1))
    if outer or not all(protocols) or not protocols:
        raise WireError("a list of application protocols that is none")
    return tuple(protocols)
