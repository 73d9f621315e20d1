"""
The first 64 bytes of a leg: which channel of which session, in which role, and the proof.

Layout (C{docs/protocol.rst}, "The relay port")::

    0  magic "RTN1"            4     8  session id          16     32 nonce      16
    4  role (1 visitor, 2 provider)  24 channel number (u64) 8     48 tag        16
    5  flags, 6-7 zero

The tag is the first 16 bytes of HMAC-SHA256(channel key, bytes 0..47).
"""

from __future__ import annotations

import enum
import hmac
import struct
from dataclasses import dataclass

from .errors import WireError

MAGIC = b"RTN1"
SIZE = 64
KEY_SIZE = 32
NONCE_SIZE = 16
SESSION_SIZE = 16

#: What the relay answers when both legs are there.
PAIRED = b"+"
#: What it answers instead, before one L{Refusal} byte and the end.
REFUSED = b"-"

_LAYOUT = struct.Struct("!4sBBH16sQ16s16s")
_SIGNED = SIZE - 16


class Role(enum.IntEnum):
    """Which end of the channel a leg is."""

    VISITOR = 1
    PROVIDER = 2

    @property
    def other(self) -> Role:
        """The role of a leg's partner."""
        return Role.PROVIDER if self is Role.VISITOR else Role.VISITOR


#: The preamble's one flag: a provider's leg for whichever channel comes next; its channel number
#: is a serial number of its own, each used once.  It sends nothing before it has read C{+}.
SPARE = 1


_ROLES = {int(role): role for role in Role}


class Refusal(enum.IntEnum):
    """The code byte after C{-}: why a leg was turned away."""

    #: Not 64 bytes of this format.
    MALFORMED = 1
    #: No such session, or the tag is wrong; one code, so that nothing can be probed.
    UNAUTHORIZED = 2
    #: This nonce, channel or serial number was used before.
    REPLAYED = 3
    #: A live leg of the same role is there already.
    DUPLICATE = 4
    #: The session takes no new channel (it ended, or one of its clients has left).
    NOT_LIVE = 5
    #: The partner did not come in time.
    LONELY = 6
    #: A limit of the server: too many legs.
    LIMIT = 7


@dataclass(frozen=True, slots=True)
class Preamble:
    """A decoded preamble; nothing in it is to be believed before L{is_authentic}."""

    role: Role
    spare: bool
    session: bytes
    channel: int
    nonce: bytes
    signed: bytes
    tag: bytes

    def is_authentic(self, key: bytes) -> bool:
        """Whether the tag was made with C{key}; takes the same time either way."""
        return hmac.compare_digest(self.tag, _tag(key, self.signed))


def encode(
    key: bytes, role: Role, session: bytes, channel: int, nonce: bytes, spare: bool = False
) -> bytes:
    """
    The 64 bytes that open a leg.

    @param key: the 32-byte channel key of this role.
    @param session: the 16 bytes of the session id.
    @param nonce: 16 fresh random bytes.
    """
    flags = SPARE if spare else 0
    unsigned = _LAYOUT.pack(MAGIC, role, flags, 0, session, channel, nonce, b"")[:_SIGNED]
    return unsigned + _tag(key, unsigned)


def decode(data: bytes) -> Preamble:
    """
    @param data: exactly 64 bytes.
    @raise WireError: if they are no preamble of this version.
    """
    if len(data) != SIZE:
        raise WireError(f"a preamble has {SIZE} bytes")
    magic, number, flags, reserved, session, channel, nonce, tag = _LAYOUT.unpack(data)
    if magic != MAGIC:
        raise WireError("not a relaytun preamble")
    if reserved or flags > SPARE:
        raise WireError("unknown flags in the preamble")
    role = _ROLES.get(number)
    if role is None:
        raise WireError("unknown role in the preamble")
    if flags and role is Role.VISITOR:
        raise WireError("a visitor has no spare legs")
    return Preamble(role, flags == SPARE, session, channel, nonce, data[:_SIGNED], tag)


def could_be(data: bytes) -> bool:
    """Whether C{data}, the first bytes of a connection, can still become a preamble."""
    return data[: len(MAGIC)] == MAGIC[: len(data)]


def _tag(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")[:16]
