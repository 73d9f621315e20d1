"""
NAT-PMP (RFC 6886): what a home router is asked for when a port of its is to lead to one of ours.

Questions are made and answers are read; the announcements that a router may send unasked are not.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import TypeAlias

from .errors import WireError

#: Where the router listens; PCP has the same port.
PORT = 5351
#: What a router answers that speaks other versions only.
UNSUPPORTED_VERSION = 1

_VERSION = 0
_ADDRESS, _UDP, _TCP = 0, 1, 2
_OPERATIONS = {"udp": _UDP, "tcp": _TCP}
_PROTOCOLS = {_UDP: "udp", _TCP: "tcp"}
_ANSWER = 0x80

_WISH = struct.Struct("!BBHHHI")
_HEAD = struct.Struct("!BBHI")
_MAPPED = struct.Struct("!HHI")
_REASONS = {
    1: "unsupported version",
    2: "not authorized",
    3: "network failure",
    4: "out of resources",
    5: "unsupported operation",
}


@dataclass(frozen=True, slots=True)
class Address:
    """
    @ivar address: the router's outer one.
    @ivar epoch: seconds since it lost its mappings.
    """

    address: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """
    @ivar protocol: C{udp} or C{tcp}.
    @ivar lifetime: seconds that it was given; 0: it is deleted.
    @ivar epoch: as L{Address.epoch}.
    """

    protocol: str
    internal_port: int
    external_port: int
    lifetime: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    @ivar code: of RFC 6886, section 3.5.
    """

    code: int

    @property
    def reason(self) -> str:
        """It in words."""
        return _REASONS.get(self.code, f"code {self.code}")


Answer: TypeAlias = Address | Mapping | Refusal


def encode_address_request() -> bytes:
    """Which address does the router have outside?"""
    return bytes((_VERSION, _ADDRESS))


def encode_mapping_request(
    protocol: str, internal_port: int, external_port: int, lifetime: int
) -> bytes:
    """
    Have a port outside, or give it back.

    @param external_port: what is wished for; 0: any, and when it is given back.
    @param lifetime: in seconds; 0: give it back.
    """
    operation = _OPERATIONS[protocol]
    return _WISH.pack(_VERSION, operation, 0, internal_port, external_port, lifetime)


def decode(data: bytes) -> Answer:
    """
    An answer; a router adds nothing to it.

    @raise WireError: if it is none.
    """
    if len(data) < _HEAD.size:
        raise WireError("a NAT-PMP answer that is too short")
    version, operation, code, epoch = _HEAD.unpack_from(data)
    if version != _VERSION or not operation & _ANSWER:
        raise WireError("no NAT-PMP answer")
    if code:
        # What follows is there or not, from router to router.
        return Refusal(code)
    operation ^= _ANSWER
    body = data[_HEAD.size :]
    if operation == _ADDRESS and len(body) == 4:
        return Address(str(ipaddress.IPv4Address(body)), epoch)
    if operation in _PROTOCOLS and len(body) == _MAPPED.size:
        internal, external, lifetime = _MAPPED.unpack(body)
        return Mapping(_PROTOCOLS[operation], internal, external, lifetime, epoch)
    raise WireError("a NAT-PMP answer to no question of ours")
