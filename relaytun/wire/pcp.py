"""
The Port Control Protocol (RFC 6887), as far as opcode MAP: a port of the router's that leads to one
of ours.

A nonce of 96 bits ties answers to questions, and a mapping to who made it.  Options are neither
sent nor read.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from .errors import WireError

NONCE_SIZE = 12
#: The largest packet that the protocol has.
MAX_SIZE = 1100

_VERSION, _MAP, _ANSWER = 2, 1, 0x80
_PROTOCOLS = {"tcp": 6, "udp": 17}
_NAMES = {number: name for name, number in _PROTOCOLS.items()}
_QUESTION_HEAD = struct.Struct("!BBHI16s")
_ANSWER_HEAD = struct.Struct("!BBBBII12s")
_BODY = struct.Struct("!12sB3sHH16s")
_REASONS = {
    1: "unsupported version",
    2: "not authorized",
    3: "malformed request",
    4: "unsupported opcode",
    5: "unsupported option",
    6: "malformed option",
    7: "network failure",
    8: "no resources",
    9: "unsupported protocol",
    10: "too many mappings for this host",
    11: "the external address cannot be provided",
    12: "the address is not the one that the router sees",
    13: "excessive remote peers",
}


@dataclass(frozen=True, slots=True)
class Mapping:
    """
    A router's yes or no.

    @ivar code: 0: yes; else of RFC 6887, section 7.4.
    @ivar nonce: the question's.
    @ivar protocol: C{udp} or C{tcp}.
    @ivar external_address, external_port: what was given, IPv4 or IPv6.
    @ivar lifetime: seconds that it was given, or for which the refusal holds.
    @ivar epoch: seconds since the router lost its mappings.
    """

    code: int
    nonce: bytes
    protocol: str
    internal_port: int
    external_address: str
    external_port: int
    lifetime: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    The whole question was refused, so that the answer has no nonce.

    @ivar code: as L{Mapping.code}.
    """

    code: int


def reason(code: int) -> str:
    """A code in words."""
    return _REASONS.get(code, f"code {code}")


def encode_mapping_request(
    nonce: bytes,
    client: str,
    protocol: str,
    internal_port: int,
    external: tuple[str, int] | None,
    lifetime: int,
) -> bytes:
    """
    Have a port outside, or give it back.

    @param nonce: L{NONCE_SIZE} random bytes, the same ones as long as the mapping lives.
    @param client: the address that the router sees.
    @param external: the address and port that are wished for.
    @param lifetime: in seconds; 0: give it back.
    """
    head = _QUESTION_HEAD.pack(_VERSION, _MAP, 0, lifetime, _packed(client))
    any_place = "::" if ":" in client else "0.0.0.0", 0
    address, port = external or any_place
    number = _PROTOCOLS[protocol]
    return head + _BODY.pack(nonce, number, bytes(3), internal_port, port, _packed(address))


def decode(data: bytes) -> Mapping | Refusal:
    """
    An answer to L{encode_mapping_request}.

    @raise WireError: if it is none.
    """
    if not _ANSWER_HEAD.size <= len(data) <= MAX_SIZE:
        raise WireError("a PCP answer of no possible size")
    version, operation, _, code, lifetime, epoch, _ = _ANSWER_HEAD.unpack_from(data)
    if version != _VERSION or operation != _MAP | _ANSWER:
        raise WireError("no PCP answer to a question of ours")
    if len(data) < _ANSWER_HEAD.size + _BODY.size:
        if code:
            return Refusal(code)
        raise WireError("a PCP answer that is too short")
    nonce, number, _, internal, external, packed = _BODY.unpack_from(data, _ANSWER_HEAD.size)
    if number not in _NAMES:
        raise WireError("a PCP answer for a protocol that was not asked for")
    address = _unpacked(packed)
    return Mapping(code, nonce, _NAMES[number], internal, address, external, lifetime, epoch)


def _packed(address: str) -> bytes:
    """All addresses have 16 bytes; IPv4 is mapped into them."""
    given = ipaddress.ip_address(address)
    return given.packed if given.version == 6 else bytes(10) + b"\xff\xff" + given.packed


def _unpacked(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)
