"""
Datagrams on the relay port: the header, the bind packet, and the sealed form.

Layout (C{docs/protocol.rst}, "Datagrams")::

    every packet      0  session u32                4  length u16: of what follows
    bind packet       6  magic "RTB1"              14  counter u64      38  tag 16
                     10  role  11 kind  12 zero 2  22  cookie 16
    sealed datagram   6  sequence u64: the epoch in its top 16 bits     14  ciphertext and tag

The ciphertext holds a flow number (u32) and the datagram.  Flow 0 is the path's own: a C{PROBE}
or its C{ANSWER}.

A I{run} is what the kernel takes and gives in one call: datagrams one behind the other in a
buffer, all of one size but the last, which may be shorter.
"""

from __future__ import annotations

import enum
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import WireError
from .preamble import Role

MAGIC = b"RTB1"
COOKIE_SIZE = 16
NO_COOKIE = bytes(COOKIE_SIZE)
#: The most that an IPv4 datagram holds, 65,535 - 20 - 8; nothing here is larger.
LARGEST = 65507

HEADER = struct.Struct("!IH")
#: The header and the sequence number of a sealed datagram.
SEALED_HEADER = struct.Struct("!IHQ")
FLOW = struct.Struct("!I")
#: What sealing adds to a datagram: headers, the flow, and the 16 bytes of the AEAD's tag.
OVERHEAD = SEALED_HEADER.size + FLOW.size + 16
#: Bits of the sequence number below the epoch.
EPOCH_SHIFT = 48
#: The flow of probes.
CONTROL_FLOW = 0
LAST_FLOW = 2**32 - 1
#: What stands for the session where there is no relay.  Its first byte, 0x20, tells a sealed
#: datagram on a punched path from a punch packet (0x21) and from QUIC (which sets 0x40).
PUNCHED = 0x20000000

_BIND = struct.Struct("!IH4sBBHQ16s16s")
BIND_SIZE = _BIND.size
_SIGNED = BIND_SIZE - 16
_CONTROL = struct.Struct("!BQ")
#: The smallest sealed packet that is a probe.
SMALLEST_PROBE = OVERHEAD + _CONTROL.size
_ROLES = {int(role): role for role in Role}


class Kind(enum.IntEnum):
    """What a bind packet says."""

    #: Client to server: bind the address that this comes from.
    ASK = 0
    #: Server to client: ask again, with this cookie.
    COOKIE = 1
    #: Server to client: it is bound; the cookie is for the next time.
    BOUND = 2


_KINDS = {int(kind): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Bind:
    """A decoded bind packet; nothing in it is to be believed before L{is_authentic}."""

    session: int
    role: Role
    kind: Kind
    counter: int
    cookie: bytes
    signed: bytes
    tag: bytes

    def is_authentic(self, key: bytes) -> bool:
        """Whether the tag was made with C{key}; takes the same time either way."""
        return hmac.compare_digest(self.tag, _tag(key, self.signed))


class Control(enum.IntEnum):
    """What a datagram of the control flow says."""

    #: Answer this; it is as large as the datagrams that its sender wants to send.
    PROBE = 1
    #: The probe of this token arrived.
    ANSWER = 2


_CONTROLS = {int(control): control for control in Control}


def encode_bind(
    key: bytes, session: int, role: Role, kind: Kind, counter: int, cookie: bytes = NO_COOKIE
) -> bytes:
    """
    A bind packet, question or answer: both have the same size.

    @param key: the 32-byte channel key of C{role}.
    @param counter: of the question: rises with each; of the answer: the question's.
    """
    length = BIND_SIZE - HEADER.size
    packed = _BIND.pack(session, length, MAGIC, role, kind, 0, counter, cookie, b"")
    unsigned = packed[:_SIGNED]
    return unsigned + _tag(key, unsigned)


def decode_bind(data: bytes | memoryview) -> Bind:
    """
    @param data: a whole packet.
    @raise WireError: if it is no bind packet.
    """
    if len(data) != BIND_SIZE:
        raise WireError(f"a bind packet has {BIND_SIZE} bytes")
    session, length, magic, role, kind, zero, counter, cookie, tag = _BIND.unpack(data)
    if magic != MAGIC or length != BIND_SIZE - HEADER.size:
        raise WireError("not a bind packet")
    if role not in _ROLES or kind not in _KINDS or zero:
        raise WireError("unknown flags in a bind packet")
    signed = bytes(data[:_SIGNED])
    return Bind(session, _ROLES[role], _KINDS[kind], counter, cookie, signed, tag)


def may_hold_bind(data: memoryview, size: int) -> bool:
    """
    Whether one of the packets of a run has the size and the magic of a bind packet.

    @param size: of each packet but the last.
    """
    if len(data) < BIND_SIZE:
        return False
    if size == BIND_SIZE:
        return MAGIC in bytes(data)
    last = len(data) % size or size
    start = len(data) - last + HEADER.size
    return last == BIND_SIZE and data[start : start + len(MAGIC)] == MAGIC


def session_of_run(data: memoryview, size: int) -> int:
    """
    @return: the session that every packet of the run names.
    @raise WireError: if they differ, or the length of one is wrong.
    """
    if len(data) < HEADER.size or size < HEADER.size:
        raise WireError("shorter than the header")
    header = bytes(data[: HEADER.size])
    session, length = HEADER.unpack(header)
    whole = len(data) - len(data) % size
    if whole:
        if length != size - HEADER.size:
            raise WireError("the length in the header is wrong")
        if whole > size:
            headers = struct.iter_unpack(f"{HEADER.size}s{length}x", data[:whole])
            if set(headers) != {(header,)}:
                raise WireError("the packets of a run differ")
    if whole < len(data):
        rest = len(data) - whole - HEADER.size
        if rest < 0 or HEADER.unpack_from(data, whole) != (session, rest):
            raise WireError("the last packet of a run differs")
    return int(session)


def split(data: memoryview, size: int) -> Iterator[memoryview]:
    """The datagrams of a run, one by one."""
    for start in range(0, len(data), size) if size else ():
        yield data[start : start + size]
    if not size:
        yield data[:0]


def encode_control(control: Control, token: int, size: int = 0) -> bytes:
    """
    A datagram of the control flow.

    @param size: pad it so that the sealed packet has this size.
    """
    return _CONTROL.pack(control, token) + bytes(max(0, size - SMALLEST_PROBE))


def decode_control(data: bytes) -> tuple[Control, int]:
    """
    @return: what it says, and the probe's token.
    @raise WireError: if it says nothing that is known here.
    """
    if len(data) < _CONTROL.size or data[0] not in _CONTROLS:
        raise WireError("unknown control datagram")
    control, token = _CONTROL.unpack_from(data)
    return _CONTROLS[control], token


def _tag(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")[:16]
