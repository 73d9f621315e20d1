"""
Who may stay before having proved anything.

Strangers share a bounded number of places.  When an address (an IPv4 address, an IPv6 /64) has
used up its own, or all are taken, the one that has waited longest has to leave: an honest login
takes milliseconds, a silent socket takes all the time it can get, so the flood displaces itself
and an honest newcomer is never the one refused.  OpenSSH drops at random for the same end.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache

#: Places for strangers from one address, and in all.
PER_ADDRESS = 256
IN_ALL = 1024


@lru_cache(4096)
def address_key(address: str) -> str:
    """
    What counts as one address: a /32 of IPv4 (also when mapped into IPv6), a /64 of IPv6.

    What is no IP address (the peer of a UNIX socket) counts as one.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, 64), strict=False).network_address)
    return str(parsed)


def is_loopback(address: str) -> bool:
    """Whether a peer with this address is on this machine."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address == ""
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback


class Place:
    """A stranger's place; given up by L{leave}, whether it was proven or went away."""

    __slots__ = ("_admission", "_key", "evict")

    def __init__(self, admission: Admission, key: str, evict: Callable[[], None]) -> None:
        self._admission = admission
        self._key = key
        self.evict = evict

    def leave(self) -> None:
        """Free the place; nothing happens if it is free already."""
        self._admission._remove(self, self._key)


class Admission:
    """The places of one port."""

    def __init__(self, per_address: int = PER_ADDRESS, in_all: int = IN_ALL) -> None:
        self._per_address = per_address
        self._in_all = in_all
        self._all: dict[Place, None] = {}
        self._by_address: dict[str, dict[Place, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, address: str, evict: Callable[[], None]) -> Place:
        """
        @param evict: called if this one has to make room: it is to disconnect.
        """
        key = address_key(address)
        neighbours = self._by_address.setdefault(key, {})
        oldest = None
        if len(neighbours) >= self._per_address:
            oldest = next(iter(neighbours))
        elif len(self._all) >= self._in_all:
            oldest = next(iter(self._all))
        place = Place(self, key, evict)
        self._all[place] = None
        neighbours[place] = None
        if oldest is not None:
            oldest.leave()
            oldest.evict()
        return place

    def _remove(self, place: Place, key: str) -> None:
        if place not in self._all:
            return
        del self._all[place]
        neighbours = self._by_address[key]
        del neighbours[place]
        if not neighbours:
            del self._by_address[key]


class Bucket:
    """
    A token bucket: C{rate} actions a second, C{rate} at once.

    @ivar refused: how many were refused since the bucket was last half full.
    """

    __slots__ = ("_level", "_rate", "_then", "refused")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._level = rate
        self._then = now
        self.refused = 0

    def allow(self, now: float) -> bool:
        """Whether one more action is within the rate."""
        passed = max(0.0, now - self._then)  # A clock that was set back takes nothing away.
        self._level = min(self._rate, self._level + passed * self._rate)
        self._then = now
        if self._level < 1:
            self.refused += 1
            return False
        self._level -= 1
        if self._level >= self._rate / 2:
            self.refused = 0
        return True
