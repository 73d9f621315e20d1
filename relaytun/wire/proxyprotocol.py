"""
The PROXY protocol, versions 1 and 2 (U{https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt}):
the header by which whoever passes a TCP connection on tells where it came from.

Addresses of IPv4 and IPv6 only; what else a header can say (UNIX sockets, datagrams, health checks
of the proxy itself) is read as "from nowhere in particular", and TLVs are passed over.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass

from .errors import WireError

#: An IP address and a port number.
Place = tuple[str, int]

#: The longest header of version 1, with its line end.
MAX_V1 = 107
#: The longest of version 2 that is taken: addresses, and room for a few TLVs.
MAX_V2 = 4096

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_PREFIX = b"PROXY "
_V2 = struct.Struct("!12sBBH")
_TCP4 = struct.Struct("!4s4sHH")
_TCP6 = struct.Struct("!16s16sHH")
_LOCAL, _PROXY = 0x20, 0x21
_UNKNOWN_KINDS = {0x00, 0x12, 0x22, 0x31, 0x32}
_LINE = re.compile(
    r"PROXY (TCP[46]) ([0-9a-fA-F:.]{2,39}) ([0-9a-fA-F:.]{2,39}) ([0-9]{1,5}) ([0-9]{1,5})\r\n"
)
_UNKNOWN_LINE = re.compile(rb"PROXY UNKNOWN( [ -~]*)?\r\n")


@dataclass(frozen=True, slots=True)
class Header:
    """
    @ivar source: where the connection came from; C{None}: from the proxy itself, or unknown.
    @ivar destination: where it went.
    """

    source: Place | None
    destination: Place | None


def encode(version: str, source: Place | None, destination: Place | None) -> bytes:
    """
    A header.

    @param version: C{v1} or C{v2}.
    @param source: C{None} if it is not known, as for C{destination}; what is no IP address
        counts as unknown.
    """
    ends = _addresses(source, destination)
    if ends is None:
        return b"PROXY UNKNOWN\r\n" if version == "v1" else _V2.pack(_SIGNATURE, _PROXY, 0, 0)
    (one, one_port), (other, other_port) = ends
    four = one.version == 4
    if version == "v1":
        kind = "TCP4" if four else "TCP6"
        return f"PROXY {kind} {one} {other} {one_port} {other_port}\r\n".encode("ascii")
    layout = _TCP4 if four else _TCP6
    addresses = layout.pack(one.packed, other.packed, one_port, other_port)
    return _V2.pack(_SIGNATURE, _PROXY, 0x11 if four else 0x21, layout.size) + addresses


class HeaderReader:
    """
    Reads one header, and knows which bytes are not its own.

    @ivar header: what it says, once it is whole.
    """

    def __init__(self) -> None:
        self._data = b""
        self.header: Header | None = None

    def feed(self, data: bytes) -> int:
        """
        @param data: the next bytes of the connection.
        @return: how many of them belong to the header; all, if it is not whole yet.
        @raise WireError: if it is no header.
        """
        before = len(self._data)
        whole = self._data + data
        if not _begins(whole):
            raise WireError("the connection does not begin with a PROXY header")
        size = _v2_size(whole) if whole[:1] == _SIGNATURE[:1] else _v1_size(whole)
        if size is None or len(whole) < size:
            self._data = whole
            return len(data)
        self._data = whole[:size]
        self.header = _v2(self._data) if whole[:1] == _SIGNATURE[:1] else _v1(self._data)
        return size - before


def _begins(data: bytes) -> bool:
    return any(data[: len(start)] == start[: len(data)] for start in (_SIGNATURE, _PREFIX))


def _v1_size(data: bytes) -> int | None:
    end = data.find(b"\n", 0, MAX_V1) + 1
    if not end and len(data) >= MAX_V1:
        raise WireError("a PROXY header is too long")
    return end or None


def _v1(data: bytes) -> Header:
    if _UNKNOWN_LINE.fullmatch(data):
        return Header(None, None)
    match = _LINE.fullmatch(data.decode("latin-1"))
    if match is None:
        raise WireError("a PROXY header cannot be read")
    kind, *rest = match.groups()
    try:
        parse = ipaddress.IPv4Address if kind == "TCP4" else ipaddress.IPv6Address
        one, other = (str(parse(text)) for text in rest[:2])
    except ValueError:
        raise WireError("a PROXY header has no addresses") from None
    one_port, other_port = (int(text) for text in rest[2:])
    if max(one_port, other_port) > 65535:
        raise WireError("a PROXY header has no port numbers")
    return Header((one, one_port), (other, other_port))


def _v2_size(data: bytes) -> int | None:
    if len(data) < _V2.size:
        return None
    size: int = _V2.size + _V2.unpack_from(data)[3]
    if size > MAX_V2:
        raise WireError("a PROXY header is too long")
    return size


def _v2(data: bytes) -> Header:
    _, command, kind, _ = _V2.unpack_from(data)
    if command not in (_LOCAL, _PROXY):
        raise WireError("a PROXY header is of no known version or command")
    if command == _LOCAL or kind in _UNKNOWN_KINDS:
        return Header(None, None)
    if kind not in (0x11, 0x21):
        raise WireError("a PROXY header has addresses of no known kind")
    layout = _TCP4 if kind == 0x11 else _TCP6
    if len(data) < _V2.size + layout.size:
        raise WireError("a PROXY header is too short for its addresses")
    one, other, one_port, other_port = layout.unpack_from(data, _V2.size)
    return Header(
        (str(ipaddress.ip_address(one)), one_port), (str(ipaddress.ip_address(other)), other_port)
    )


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _addresses(
    source: Place | None, destination: Place | None
) -> tuple[tuple[_Address, int], tuple[_Address, int]] | None:
    """Both as IPv4, or both as IPv6; C{None} if one is unknown."""
    if source is None or destination is None:
        return None
    try:
        one, other = _parse(source[0]), _parse(destination[0])
    except ValueError:
        return None
    if one.version != other.version:
        one, other = _as_six(one), _as_six(other)
    return (one, source[1]), (other, destination[1])


def _parse(text: str) -> _Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _as_six(address: _Address) -> _Address:
    if isinstance(address, ipaddress.IPv4Address):
        return ipaddress.IPv6Address(bytes(10) + b"\xff\xff" + address.packed)
    return address
