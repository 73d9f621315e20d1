"""
STUN (RFC 8489), as far as it is needed to be told one's own address: the Binding request and its
answers, over UDP and TCP.

Layout (sections 5 and 14)::

    0  type u16       2  length u16: of the attributes, a multiple of 4
    4  magic cookie   8  transaction, 12 bytes                20  attributes
    attribute         0  type u16   2  length u16   4  value, padded with zeros to 4 bytes

A request of ours is as large as the largest answer to it, so that nobody can have more sent to
somebody else than he sends himself.  What makes it so is C{SOFTWARE}, padded with blanks: every
STUN server takes that.

No credentials, no fingerprint, none of the RFC's other methods.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import WireError
from .text import printable

MAGIC = b"\x21\x12\xa4\x42"
#: So many bytes tell a STUN message from anything else.
TELLING = 8
HEADER_SIZE = 20
TRANSACTION_SIZE = 12
#: The largest message that is looked at; RFC 8489 allows more only where the path is known to
#: carry it.  No packet of L{relaytun.wire.datagram} of this size can be taken for one: its length
#: stands where the first half of the cookie is, and that is 8466.
LARGEST = 548

#: For a server that does not know an attribute that it would have to (section 14.8).
UNKNOWN_ATTRIBUTE = 420

_HEADER = struct.Struct("!HH4s12s")
_ATTRIBUTE = struct.Struct("!HH")
_COOKIE = int.from_bytes(MAGIC, "big")
_XOR_MAPPED, _ERROR_CODE, _UNKNOWN, _SOFTWARE = 0x0020, 0x0009, 0x000A, 0x8022
#: From here on an attribute that is not known does not matter.
_OPTIONAL = 0x8000
_FAMILIES = {1: 4, 2: 16}
#: As long as the mapped address of IPv6: 4 bytes and 16.
_SOFTWARE_VALUE = b"relaytun".ljust(20)


class _Type(enum.IntEnum):
    REQUEST = 0x0001
    ANSWER = 0x0101
    REFUSAL = 0x0111


@dataclass(frozen=True, slots=True)
class Request:
    """
    Where do you see me?

    @ivar unknown: attributes in it that one has to know to answer it.
    """

    transaction: bytes
    unknown: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """There: a literal IP address and a port."""

    transaction: bytes
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    The server does not say.

    @ivar code: 300 to 699.
    @ivar reason: its words, fit to be shown.
    """

    transaction: bytes
    code: int
    reason: str = ""


def encode_request(transaction: bytes) -> bytes:
    """
    A Binding request, as large as any L{encode_answer} to it.

    @param transaction: 12 bytes that nobody can guess: they are all that proves the answer.
    """
    return _message(_Type.REQUEST, transaction, _attribute(_SOFTWARE, _SOFTWARE_VALUE))


def encode_answer(transaction: bytes, host: str, port: int) -> bytes:
    """
    @param host: a literal IP address; one of IPv4 that is mapped into IPv6 is told as what it is.
    @raise ValueError: if it is none.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    family = 1 if address.version == 4 else 2
    value = struct.pack("!xBH", family, port ^ (_COOKIE >> 16))
    value += _masked(address.packed, transaction)
    return _message(_Type.ANSWER, transaction, _attribute(_XOR_MAPPED, value))


def encode_refusal(transaction: bytes, code: int, unknown: tuple[int, ...] = ()) -> bytes:
    """
    @param code: 300 to 699.
    @param unknown: attributes that were not understood.
    """
    attributes = _attribute(_ERROR_CODE, struct.pack("!xxBB", *divmod(code, 100)))
    if unknown:
        attributes += _attribute(_UNKNOWN, struct.pack(f"!{len(unknown)}H", *unknown))
    return _message(_Type.REFUSAL, transaction, attributes)


def may_be_message(data: bytes | memoryview) -> bool:
    """Whether a packet has the size and the cookie of a STUN message."""
    size = len(data)
    return HEADER_SIZE <= size <= LARGEST and data[4:8] == MAGIC and not data[0] & 0xC0


def could_be(head: bytes | memoryview) -> bool:
    """Whether C{head}, the first bytes of a stream, can still become a STUN message."""
    try:
        message_size(head)
    except WireError:
        return False
    return True


def message_size(head: bytes | memoryview) -> int | None:
    """
    How many bytes of a stream are its first message (section 6.2.2).

    @return: C{None} if that cannot be told before there are more.
    @raise WireError: if it is no STUN, or larger than is looked at.
    """
    if len(head) < TELLING:
        known = bytes(head[4:])
        if (head and head[0] & 0xC0) or not MAGIC.startswith(known):
            raise WireError("no STUN message")
        return None
    size = HEADER_SIZE + int.from_bytes(head[2:4], "big")
    if head[0] & 0xC0 or head[4:8] != MAGIC or size % 4 or size > LARGEST:
        raise WireError("no STUN message")
    return size


def decode(data: bytes | memoryview) -> Request | Answer | Refusal:
    """
    @param data: a whole message.
    @raise WireError: if it is no Binding request or an answer to one.
    """
    if not may_be_message(data):
        raise WireError("no STUN message")
    data = bytes(data)
    kind, length, _, transaction = _HEADER.unpack_from(data)
    if length % 4 or length != len(data) - HEADER_SIZE:
        raise WireError("the length of a STUN message is wrong")
    attributes = list(_attributes(data))
    if kind == _Type.REQUEST:
        numbers = (number for number, _ in attributes if number < _OPTIONAL)
        return Request(transaction, tuple(dict.fromkeys(numbers)))
    # Of an attribute that is there twice, the first one counts (section 14).
    values = dict(reversed(attributes))
    if kind == _Type.ANSWER:
        return _answer(transaction, values.get(_XOR_MAPPED, b""))
    if kind == _Type.REFUSAL:
        return _refusal(transaction, values.get(_ERROR_CODE, b""))
    raise WireError("a STUN message of another kind")


def _answer(transaction: bytes, value: bytes) -> Answer:
    size = _FAMILIES.get(value[1], 0) if len(value) > 4 else 0
    if not size or len(value) != 4 + size:
        raise WireError("a STUN answer without an address")
    port = int.from_bytes(value[2:4], "big") ^ (_COOKIE >> 16)
    address = ipaddress.ip_address(_masked(value[4:], transaction))
    return Answer(transaction, str(address), port)


def _refusal(transaction: bytes, value: bytes) -> Refusal:
    if len(value) < 4 or not 3 <= value[2] & 7 <= 6 or value[3] > 99:
        raise WireError("a STUN error without a code")
    reason = printable(value[4:].decode("utf-8", "replace"))
    return Refusal(transaction, 100 * (value[2] & 7) + value[3], reason)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """@raise WireError: if one goes beyond the end."""
    place = HEADER_SIZE
    while place < len(data):
        number, length = _ATTRIBUTE.unpack_from(data, place)
        place += _ATTRIBUTE.size
        end = place + length + -length % 4
        if end > len(data):
            raise WireError("a STUN attribute goes beyond its message")
        yield number, data[place : place + length]
        place = end


def _masked(address: bytes, transaction: bytes) -> bytes:
    """As on the wire or back: routers that rewrite addresses anywhere do not find it."""
    return bytes(a ^ b for a, b in zip(address, MAGIC + transaction, strict=False))


def _attribute(number: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(number, len(value)) + value + bytes(-len(value) % 4)


def _message(kind: _Type, transaction: bytes, attributes: bytes) -> bytes:
    return _HEADER.pack(kind, len(attributes), MAGIC, transaction) + attributes
