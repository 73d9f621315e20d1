"""
Punch packets: how two clients find a UDP path between them, and keep it open.

Layout; everything but the padding of the two full-size kinds is 56 bytes long::

     0  magic "!RP1"     20  transaction 8     30  zero 2          40  padding (zeros)
     4  session 16       28  direction         32  counter u64     -16  tag 16
                         29  kind

The first byte is below 0x40: QUIC sets 0x40 (RFC 9000, section 17.2), and STUN's first two bytes
are others.  The tag is HMAC-SHA256 over all that is before it, cut to 16 bytes, with a key that
only the two clients have, so a packet that is not authentic is simply not one of ours.

An answer is as large as its question and repeats its transaction.  The direction tells one's own
packets, sent back by somebody, from the peer's; the counter, those that were sent once from those
that somebody repeats.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from dataclasses import dataclass

from .errors import WireError
from .replay import SequenceWindow

MAGIC = b"!RP1"
SESSION_SIZE = 16
TRANSACTION_SIZE = 8
TAG_SIZE = 16

_HEADER = struct.Struct("!4s16s8sBBHQ")
#: Bytes of a packet.
SIZE = _HEADER.size + TAG_SIZE
#: Bytes of a packet that proves that large ones pass: the smallest that QUIC sends at first (RFC
#: 9000, section 14.1).
FULL_SIZE = 1200
#: Packets that may be overtaken by a later one.
WINDOW = 1024
#: Counters are below this.
COUNTERS = 2**63


class Kind(enum.IntEnum):
    """What a punch packet says; the odd ones are answers to the one before."""

    #: Are you there?
    PING = 0
    PONG = 1
    #: Do large packets pass, there and back?
    ECHO = 2
    ECHOED = 3
    #: From the initiator alone: this path is proven, let us use it.
    USE = 4
    USED = 5


_KINDS = {int(kind): kind for kind in Kind}
_FULL = {Kind.ECHO, Kind.ECHOED}
_ANSWERS = {Kind.PING: Kind.PONG, Kind.ECHO: Kind.ECHOED, Kind.USE: Kind.USED}


@dataclass(frozen=True, slots=True)
class Punch:
    """
    A decoded packet; nothing in it is to be believed before L{is_authentic}.

    @ivar from_initiator: its direction.
    """

    session: bytes
    transaction: bytes
    from_initiator: bool
    kind: Kind
    counter: int
    signed: bytes
    tag: bytes

    def is_authentic(self, key: bytes) -> bool:
        """Whether the tag was made with C{key}; takes the same time either way."""
        return hmac.compare_digest(self.tag, _tag(key, self.signed))


def session_of(*parts: bytes) -> bytes:
    """
    The 16 bytes that stand for one attempt of a session.

    @param parts: whatever makes the attempt different from all others of the same key: counters
        start again with each.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(struct.pack("!I", len(part)) + part)
    return digest.digest()[:SESSION_SIZE]


def encode(
    key: bytes, session: bytes, transaction: bytes, from_initiator: bool, kind: Kind, counter: int
) -> bytes:
    """
    @param session: 16 bytes, see L{session_of}.
    @param transaction: 8 bytes: a question's are random, an answer's are the question's.
    @param counter: rises with each packet of a direction.
    """
    unsigned = _HEADER.pack(MAGIC, session, transaction, not from_initiator, kind, 0, counter)
    if kind in _FULL:
        unsigned += bytes(FULL_SIZE - SIZE)
    return unsigned + _tag(key, unsigned)


def is_punch(data: bytes | memoryview) -> bool:
    """Whether this looks like a punch packet, of whomever."""
    return data[: len(MAGIC)] == MAGIC


def decode(data: bytes | memoryview) -> Punch:
    """
    @param data: a whole datagram.
    @raise WireError: if it is no punch packet.
    """
    if len(data) not in (SIZE, FULL_SIZE):
        raise WireError("no punch packet has this size")
    magic, session, transaction, direction, kind, zero, counter = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise WireError("not a punch packet")
    if direction > 1 or kind not in _KINDS or zero or counter >= COUNTERS:
        raise WireError("unknown flags in a punch packet")
    if (kind in _FULL) != (len(data) == FULL_SIZE):
        raise WireError("a punch packet of the wrong size for its kind")
    if any(data[_HEADER.size : -TAG_SIZE]):
        raise WireError("padding that is not zero in a punch packet")
    signed, tag = bytes(data[:-TAG_SIZE]), bytes(data[-TAG_SIZE:])
    return Punch(session, transaction, not direction, _KINDS[kind], counter, signed, tag)


class Speech:
    """One end of the conversation of an attempt: makes its packets, and knows the peer's."""

    def __init__(self, key: bytes, session: bytes, initiator: bool) -> None:
        """
        @param key: 32 bytes that both clients, and nobody else, have.
        @param session: 16 bytes, see L{session_of}.
        @param initiator: exactly one of the two is.
        """
        if len(session) != SESSION_SIZE:
            raise ValueError(f"a session has {SESSION_SIZE} bytes")
        self._key = key
        self._session = session
        self._initiator = initiator
        self._counter = 0
        self._window = SequenceWindow(WINDOW)

    def question(self, kind: Kind, transaction: bytes) -> bytes:
        """The next packet of ours."""
        self._counter += 1
        return encode(self._key, self._session, transaction, self._initiator, kind, self._counter)

    def answer(self, question: Punch) -> bytes:
        """
        The answer to one of the peer's, as large as it.

        @param question: a ping, an echo, or a use.
        """
        return self.question(_ANSWERS[question.kind], question.transaction)

    def understand(self, data: bytes | memoryview) -> Punch | None:
        """
        @param data: a datagram from anybody.
        @return: what the peer said; nothing for all that is not of this attempt, of the peer,
            authentic, and new.
        """
        if not is_punch(data):
            return None
        try:
            punch = decode(data)
        except WireError:
            return None
        if punch.session != self._session or punch.from_initiator == self._initiator:
            return None
        if not punch.is_authentic(self._key) or not self._window.add(punch.counter):
            return None
        return punch


def _tag(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")[:TAG_SIZE]
