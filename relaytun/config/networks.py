"""
Parsers of networks and ranges of ports.

Pure, like C{values}: a text to a value, or C{ValueError} with what to write instead.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from relaytun.config import values

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
PortRange = tuple[int, int]
"""The first and the last port of a range."""


def networks(text: str) -> tuple[Network, ...]:
    """Read at least one network or single address, separated by commas or line ends."""
    words = values.words(text)
    if not words:
        raise ValueError("empty: name at least one network, or remove the key")
    return tuple(dict.fromkeys(map(_network, words)))


def _network(word: str) -> Network:
    try:
        network = ipaddress.ip_network(word)
    except ValueError:
        raise ValueError(
            "not a network: write 10.0.0.0/8, 2001:db8::/32 or a single address; "
            "the bits behind the prefix are zero"
        ) from None
    return network


def port_ranges(text: str) -> tuple[PortRange, ...]:
    """Read ports and ranges of ports, separated by commas or line ends: C{6000-6999, 7001}."""
    return tuple(dict.fromkeys(_port_range(word) for word in values.words(text)))


def _port_range(word: str) -> PortRange:
    first, dash, last = (part.strip() for part in word.partition("-"))
    try:
        low = values.port(first)
        high = values.port(last) if dash else low
    except ValueError:
        raise ValueError(
            "not ports: write numbers from 1 to 65535 and ranges of them, such as 6000-6999, 7001"
        ) from None
    if low > high:
        raise ValueError("a range goes from the lower port to the higher: swap the two")
    return low, high


def in_ranges(port: int, ranges: Iterable[PortRange]) -> bool:
    """Tell whether a port is in one of the ranges."""
    return any(low <= port <= high for low, high in ranges)
